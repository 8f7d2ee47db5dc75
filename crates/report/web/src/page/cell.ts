// The list behind a cell: its prompts with their values.

import type { Slices } from "../figures";
import { make } from "../figures/hover";
import type { Mark } from "../figures/marks";
import { exact } from "../figures/numbers";
import type { Origin } from "../figures/view";
import type { State } from "./state";

let dialog: HTMLDialogElement | undefined;

/** Shows the prompts of a cell, the largest value first; choosing one shows it everywhere. */
export function showCell(state: State, mark: Mark, origin: Origin, slices: Slices): void {
  dialog?.remove();
  const shown = make("dialog", "cell");
  dialog = shown;
  document.body.append(shown);
  const heading = make("h2", "", mark.name);
  heading.id = "cell-heading";
  shown.setAttribute("aria-labelledby", heading.id);
  const found = slices.ofCell(origin.panel, origin.row, origin.col);
  const most = Math.max(...found.map(({ value }) => Math.abs(value)), Number.MIN_VALUE);
  const table = make("table");
  const head = make("tr");
  for (const title of ["Prompt", "Scenario", "Value", ""]) {
    const cell = make("th", title === "Value" ? "number" : "", title);
    cell.scope = "col";
    head.append(title ? cell : make("td"));
  }
  const body = make("tbody");
  for (const { prompt, value } of found) {
    const row = make("tr");
    const known = state.prompts.find((p) => p.id === prompt);
    const choose = make("button", "plain", prompt);
    choose.type = "button";
    choose.addEventListener("click", () => {
      shown.close();
      state.choosePrompt(prompt);
    });
    const first = make("td", "", known ? "" : prompt);
    if (known) {
      first.append(choose);
    }
    row.append(first, make("td", "", known?.scenario ?? ""), make("td", "number", exact(value)), bar(value / most));
    body.append(row);
  }
  const thead = make("thead");
  thead.append(head);
  table.append(thead, body);
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Prompts of this cell");
  scroll.append(table);
  const close = make("button", "", "Close");
  close.type = "button";
  close.addEventListener("click", () => shown.close());
  const about = `${found.length} prompt${found.length === 1 ? "" : "s"}, largest value first. Choose one to see it in all figures.`;
  shown.append(heading, make("p", "card-value", mark.value), make("p", "small", about), scroll, close);
  shown.addEventListener("close", () => shown.remove());
  shown.showModal();
}

/** A value as a bar from the middle, `share` of half the width. */
function bar(share: number): HTMLElement {
  const cell = make("td", "spark");
  const line = make("span", share < 0 ? "below" : "above");
  line.style.width = `${Math.abs(share) * 50}%`;
  line.style.left = share < 0 ? `${50 + share * 50}%` : "50%";
  cell.append(line);
  return cell;
}
