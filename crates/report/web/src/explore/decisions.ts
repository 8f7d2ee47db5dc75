// Decisions of all models as a figure and as a table.

import type { Figure } from "../figures";
import { make } from "../figures/hover";
import type { Answer } from "./types";

/** A number of the decisions by model. */
function column(answer: Answer | undefined, name: string): Map<string, number> {
  const table = answer?.found["decide"]?.tables["decisions"];
  const models = table?.["model"] ?? [];
  return new Map(models.map((model, i) => [String(model), Number(table?.[name]?.[i])]));
}

export function decisionFigure(answer: Answer, plain: Answer | undefined): Figure {
  const [, b] = answer.meanings;
  const values = (of: Answer) => {
    const found = column(of, "p_b");
    return answer.models.map((model) => found.get(model) ?? null);
  };
  const none = answer.models.map(() => null);
  const edited = { name: plain ? "edited" : "probability", color: { model: 0 }, values: values(answer), intervals: none };
  const before = plain ? [{ name: "without edits", color: "base" as const, values: values(plain), intervals: none }] : [];
  const panel = { title: "", groups: answer.models, series: [...before, edited] };
  return {
    name: "decisions",
    title: `Probability of ${b} among the two answers`,
    caption: "0.5 is indifference.",
    kind: { bars: { y_label: "probability", panels: [panel] } },
  };
}

export function decisionTable(answer: Answer, plain: Answer | undefined): HTMLElement {
  const [, b] = answer.meanings;
  const [delta, p, mass, before] = [
    column(answer, "delta"),
    column(answer, "p_b"),
    column(answer, "legal_mass"),
    column(plain, "delta"),
  ];
  const heads = ["Model", `P(${b})`, "delta", ...(plain ? ["without edits", "change"] : []), "legal mass"];
  const table = make("table");
  const head = make("tr");
  head.append(
    ...heads.map((title, i) => {
      const cell = make("th", i > 0 ? "number" : "", title);
      cell.scope = "col";
      return cell;
    }),
  );
  const thead = make("thead");
  thead.append(head);
  const body = make("tbody");
  for (const model of answer.models) {
    const [now, then] = [delta.get(model) ?? NaN, before.get(model) ?? NaN];
    const row = make("tr");
    row.dataset["model"] = model;
    const name = make("th", "", model);
    name.scope = "row";
    const cells = [probability(p.get(model)), signed(now), ...(plain ? [signed(then), signed(now - then)] : []), probability(mass.get(model))];
    row.append(name, ...cells.map((text) => make("td", "number", text)));
    body.append(row);
  }
  table.append(thead, body);
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "Decisions in numbers");
  const [a] = answer.meanings;
  const note = `delta: log-probability of ${b} minus that of ${a}, in nats. Legal mass: probability of either answer at all.`;
  scroll.append(table, make("p", "small", note));
  return scroll;
}

export const signed = (v: number) => (Number.isFinite(v) ? `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(3)}` : "");

const probability = (v: number | undefined) =>
  v === undefined || !Number.isFinite(v) ? "" : v > 0 && v < 0.001 ? v.toExponential(1) : v.toFixed(3);
