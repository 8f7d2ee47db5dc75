// The answer, drawn: decisions, lens and attribution of all models, beside those of the models without edits.

import { drawFigure, type Figure, type Handle, type Theme } from "../figures";
import { make } from "../figures/hover";
import type { Heatmap, HeatmapPanel, LinePanel, Value } from "../figures/types";
import { decisionFigure, decisionTable } from "./decisions";
import type { Answer, Section } from "./types";

/** A head or an MLP that was clicked. */
export type Pick = (unit: string, model: string, value: string) => void;

/** Draws answers into one place; figures that are there already are replaced one by one, so that nothing jumps. */
export class Results {
  readonly element = make("div", "results");
  private readonly handles: Handle[] = [];

  constructor(
    private readonly theme: Theme,
    private readonly pick: Pick,
  ) {}

  /** `plain` is the answer without edits where there are any. */
  async show(answer: Answer, plain: Answer | undefined): Promise<void> {
    const old = this.handles.splice(0);
    const sections: HTMLElement[] = [];
    for (const part of [
      this.decisions(answer, plain),
      this.lens(answer, plain),
      this.attribution(answer, plain),
      this.attention(answer),
      this.tokens(answer),
    ]) {
      const section = await part;
      if (section) {
        sections.push(section);
      }
    }
    this.element.replaceChildren(...sections);
    // Drawings fit their places once they have one.
    await Promise.all(this.handles.map((handle) => handle.update({})));
    for (const handle of old) {
      handle.destroy();
    }
  }

  private async figure(figure: Figure, onPick?: (panel: number, row: number, col: number, value: string) => void): Promise<HTMLElement> {
    const shown = make("figure");
    const place = make("div", "drawing");
    shown.append(make("h3", "figure-title", figure.title), place, make("figcaption", "", figure.caption));
    const handle = await drawFigure(place, figure, {
      theme: this.theme,
      onPick: (origin, mark) => onPick?.(origin.panel, origin.row, origin.col, `${mark.name}: ${mark.value}`),
    });
    this.handles.push(handle);
    return shown;
  }

  private section(of: Section, children: HTMLElement[]): HTMLElement {
    const shown = make("section", "panel");
    shown.id = of.id;
    shown.append(make("h2", "", of.question), ...children);
    if (of.notes.length > 0) {
      const notes = make("ul", "small");
      notes.append(...of.notes.map((note) => make("li", "", note)));
      shown.append(notes);
    }
    return shown;
  }

  private async decisions(answer: Answer, plain: Answer | undefined): Promise<HTMLElement | undefined> {
    const found = answer.found["decide"];
    if (!found) {
      return undefined;
    }
    const figure = decisionFigure(answer, plain);
    const shown = make("section", "panel");
    shown.id = "decide";
    shown.append(make("h2", "", found.section.question), await this.figure(figure), decisionTable(answer, plain));
    return shown;
  }

  private async lens(answer: Answer, plain: Answer | undefined): Promise<HTMLElement | undefined> {
    const section = answer.found["lens"]?.section;
    const figure = section?.figures.find((f) => "lines" in f.kind);
    if (!section || !figure || !("lines" in figure.kind)) {
      return undefined;
    }
    const { lines } = figure.kind;
    const panel = (from: LinePanel | undefined, title: string): LinePanel[] =>
      from ? [{ title, series: from.series.map((s) => ({ ...s, lo: [], hi: [] })) }] : [];
    const before = plain?.found["lens"]?.section.figures.find((f) => f.name === figure.name)?.kind;
    const unedited = before && "lines" in before ? panel(before.lines.panels[0], "without edits") : [];
    const panels = [...unedited, ...panel(lines.panels[0], plain ? "edited" : "")];
    const [a, b] = answer.meanings;
    const caption =
      `Logit of the deciding token of ${b} minus that of ${a}, read from the residual stream after each layer through the model's ` +
      "own final norm and output matrix. The last layer is the model's own logit difference.";
    const one: Figure = { name: figure.name, title: figure.title, caption, kind: { lines: { ...lines, panels } } };
    return this.section(section, [await this.figure(one)]);
  }

  private async attribution(answer: Answer, plain: Answer | undefined): Promise<HTMLElement | undefined> {
    const section = answer.found["dla"]?.section;
    const map = section && heatmapOf(section, "dla_contributions");
    if (!section || !map) {
      return undefined;
    }
    const models = answer.models;
    const pickOf = (shown: HeatmapPanel[]) => (panel: number, row: number, col: number, value: string) => {
      const from = shown[panel];
      const [layer, head] = [from?.rows[row]?.slice(1), from?.cols[col]];
      if (from && layer && head) {
        this.pick(head === "MLP" ? `mlp_post:${layer}` : `z:${layer}.${head.slice(1)}`, models[panel] ?? from.title, value);
      }
    };
    const [a, b] = answer.meanings;
    const draw = (name: string, title: string, caption: string, panels: HeatmapPanel[], reach: number | null) => {
      const scale = { diverging: { center: 0, reach } };
      const figure: Figure = { name, title, caption, kind: { heatmap: { ...map, panels, scale } } };
      return this.figure(figure, pickOf(panels));
    };
    const panels = map.panels.map((p, i) => ({ ...p, title: models[i] ?? p.title, intervals: [] }));
    const what = `What each head and MLP adds to the logit of ${b} over ${a}; red towards ${b}, blue towards ${a}.`;
    const drawn = [
      await draw("attribution", "Direct logit attribution", `${what} Click one to switch it off or to put in another model's.`, panels, reachOf(panels)),
    ];
    const before = plain?.found["dla"] && heatmapOf(plain.found["dla"].section, "dla_contributions");
    if (before) {
      const changed = panels.map((p, i) => difference(p, before.panels[i]));
      const title = "What the edits changed in it";
      drawn.push(await draw("attribution_change", title, "Edited minus without edits, in logits.", changed, reachOf(changed)));
    }
    const steering = steered(answer);
    return this.section({ ...section, notes: [...steering, ...completeness(answer)] }, drawn);
  }

  private async attention(answer: Answer): Promise<HTMLElement | undefined> {
    const section = answer.found["attention"]?.section;
    if (!section) {
      return undefined;
    }
    const figures: HTMLElement[] = [];
    for (const figure of section.figures.filter((f) => !("graph" in f.kind))) {
      figures.push(await this.figure(figure));
    }
    return this.section(section, figures);
  }

  private tokens(answer: Answer): HTMLElement {
    const { tokens, decision_position: at, chat_template: template } = answer.prompt;
    const details = make("details", "panel tokens");
    const through = template ? "through the chat template" : "as raw text";
    details.append(make("summary", "", `The prompt as the models read it: ${tokens.length} tokens, ${through}`));
    const list = make("ol");
    list.append(
      ...tokens.map((token, i) => {
        const item = make("li", i === at ? "decides" : "", token.replaceAll("\n", "⏎"));
        item.title = i === at ? `position ${i}, the decision point` : `position ${i}`;
        return item;
      }),
    );
    details.append(list);
    return details;
  }
}

function heatmapOf(section: Section, name: string): Heatmap | undefined {
  const kind = section.figures.find((f) => f.name === name)?.kind;
  return kind && "heatmap" in kind ? kind.heatmap : undefined;
}

/** Where colours are full: the largest 1% of the cells would leave all others white. */
function reachOf(panels: HeatmapPanel[]): number | null {
  const sizes = panels.flatMap((p) => p.values.flat()).flatMap((v) => (v === null ? [] : [Math.abs(v)]));
  sizes.sort((a, b) => a - b);
  const reach = sizes[Math.floor(((sizes.length - 1) * 99) / 100)];
  return reach && reach > 0 ? reach : null;
}

function difference(now: HeatmapPanel, then: HeatmapPanel | undefined): HeatmapPanel {
  const minus = (v: Value, w: Value | undefined) => (v === null || w === null || w === undefined ? null : v - w);
  const values = now.values.map((row, r) => row.map((v, c) => minus(v, then?.values[r]?.[c])));
  return { ...now, values };
}

/** What vectors that are added contribute by themselves: they are no head and no MLP, so no cell shows them. */
function steered(answer: Answer): string[] {
  const table = answer.found["dla"]?.tables["dla"];
  const rows = table?.["kind"]?.flatMap((kind, i) => (kind === "steering" ? [i] : [])) ?? [];
  return rows.map((i) => {
    const value = Number(table?.["contribution"]?.[i]).toFixed(3);
    return `The vector added after layer ${table?.["layer"]?.[i]} contributes ${value} in ${table?.["model"]?.[i]} by itself.`;
  });
}

/** Whether all components add up to the decision. */
function completeness(answer: Answer): string[] {
  const check = answer.found["dla"]?.tables["dla_check"];
  const errors = check?.["error"]?.map((e) => Math.abs(Number(e))) ?? [];
  const complete = check?.["complete"]?.every((c) => c === true);
  const worst = Math.max(0, ...errors).toExponential(1);
  return [
    complete
      ? `All components of a model add up to its logit difference; the worst error is ${worst} logits.`
      : `The components do NOT add up to the logit difference (worst error ${worst} logits); please report this.`,
  ];
}
