// Patch sweeps: every head and MLP of one model put into another, one at a time, at the decision point.

import { make } from "../figures/hover";
import { button, field, select } from "./parts";
import type { About, Sweep } from "./types";

/** The form that asks for a sweep, and the one that is asked for. */
export class SweepPanel {
  readonly element = make("section", "panel sweep");
  asked: Sweep | undefined;
  /** Asked by hand and not seen yet. */
  isNew = false;
  private readonly source: HTMLSelectElement;
  private readonly target: HTMLSelectElement;
  private readonly stop: HTMLButtonElement;
  private readonly wrong = make("p", "small");

  constructor(
    about: About,
    private readonly changed: () => void,
  ) {
    const names = about.models.map(({ name }): [string, string] => [name, name]);
    this.source = select(names, names[1]?.[0] ?? "");
    this.target = select(names, names[0]?.[0] ?? "");
    const heading = make("h2", "", "Patch every head");
    heading.id = "sweep-heading";
    this.element.setAttribute("aria-labelledby", heading.id);
    const what = "Each head and MLP of one model, one at a time, put into another at the decision point: what does it move?";
    const go = button("Patch", () => this.ask({ source: this.source.value, target: this.target.value }));
    this.stop = button("Take away", () => this.become(undefined), "plain");
    const row = make("div", "row");
    row.append(field("From", this.source), field("Into", this.target));
    const buttons = make("div", "row");
    buttons.append(go, this.stop);
    this.element.append(heading, make("p", "small", what), row, this.wrong, buttons);
    this.element.hidden = about.models.length < 2;
    this.stop.hidden = this.wrong.hidden = true;
  }

  ask(sweep: Sweep): void {
    const same = sweep.source === sweep.target;
    this.wrong.hidden = !same;
    this.wrong.textContent = same ? "Choose two models that differ." : "";
    if (!same) {
      [this.source.value, this.target.value] = [sweep.source, sweep.target];
      this.become(sweep);
    }
  }

  private become(sweep: Sweep | undefined): void {
    this.asked = sweep;
    this.isNew = sweep !== undefined;
    this.stop.hidden = sweep === undefined;
    this.changed();
  }
}
