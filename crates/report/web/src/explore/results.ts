// The answer, drawn: decisions, lens and attribution of all models, beside those of the models without edits.

import { drawFigure, type Figure, type Handle, type Theme } from "../figures";
import { make } from "../figures/hover";
import type { Heatmap, HeatmapPanel, LinePanel, Value } from "../figures/types";
import { decisionFigure, decisionTable, signed } from "./decisions";
import type { Answer, Section, Table } from "./types";

/** A head or an MLP that was clicked. */
export type Pick = (unit: string, model: string, value: string) => void;

/** A part of the answer on the page. */
interface Shown {
  element: HTMLElement;
  handles: Handle[];
}

/** Draws answers into one place, part by part as they come; what is there already stays until its successor is drawn, so that nothing jumps. */
export class Results {
  readonly element = make("div", "results");
  private readonly parts = new Map<string, Shown>();
  private readonly tokensPlace = make("div");
  private handles: Handle[] = [];

  constructor(
    private readonly theme: Theme,
    private readonly pick: Pick,
  ) {
    this.element.append(this.tokensPlace);
  }

  /** Other parts are asked, in this order: what is shown is of before, and what is not asked any more goes. */
  begin(names: string[]): void {
    for (const [name, { element, handles }] of this.parts) {
      element.classList.add("stale");
      if (!names.includes(name)) {
        this.parts.delete(name);
        element.remove();
        for (const handle of handles) {
          handle.destroy();
        }
      }
    }
  }

  /** A part is there; `plain` is the answer without edits where there are any. */
  async show(name: string, answer: Answer, plain: Answer | undefined): Promise<void> {
    this.handles = [];
    const element = (await this.drawn(name, answer, plain)) ?? make("div");
    const shown = { element, handles: this.handles };
    const old = this.parts.get(name);
    if (old) {
      old.element.replaceWith(element);
    } else {
      this.tokensPlace.before(element);
    }
    this.parts.set(name, shown);
    this.tokensPlace.replaceChildren(this.tokens(answer));
    // Drawings fit their places once they have one.
    await Promise.all(shown.handles.map((handle) => handle.update({})));
    for (const handle of old?.handles ?? []) {
      handle.destroy();
    }
  }

  /** Scrolls to a part. */
  bring(name: string): void {
    this.parts.get(name)?.element.scrollIntoView({ block: "start" });
  }

  private async drawn(name: string, answer: Answer, plain: Answer | undefined): Promise<HTMLElement | undefined> {
    switch (name) {
      case "decide":
        return this.decisions(answer, plain);
      case "lens":
        return this.lens(answer, plain);
      case "dla":
        return this.attribution(answer, plain);
      case "patch":
        return this.sweep(answer, plain);
      default:
        return this.attention(answer);
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
    const draw = (name: string, title: string, what: string, panels: HeatmapPanel[]) => {
      const reach = reachOf(panels);
      const caption = what + fullFrom(reach);
      const scale = { diverging: { center: 0, reach } };
      const figure: Figure = { name, title, caption, kind: { heatmap: { ...map, panels, scale } } };
      return this.figure(figure, pickOf(panels));
    };
    const panels = map.panels.map((p, i) => ({ ...p, title: models[i] ?? p.title, intervals: [] }));
    const what = `What each head and MLP adds to the logit of ${b} over ${a}; red towards ${b}, blue towards ${a}.`;
    const drawn = [
      await draw("attribution", "Direct logit attribution", `${what} Click one to switch it off, to set it to its mean, or to put in another model's.`, panels),
    ];
    const before = plain?.found["dla"] && heatmapOf(plain.found["dla"].section, "dla_contributions");
    if (before) {
      const changed = panels.map((p, i) => difference(p, before.panels[i]));
      const title = "What the edits changed in it";
      drawn.push(await draw("attribution_change", title, "Edited minus without edits, in logits.", changed));
    }
    const steering = steered(answer);
    return this.section({ ...section, notes: [...steering, ...completeness(answer)] }, drawn);
  }

  private async sweep(answer: Answer, plain: Answer | undefined): Promise<HTMLElement | undefined> {
    const section = answer.found["patch"]?.section;
    const map = section && sweepMap(section);
    const table = answer.found["patch"]?.tables["patches"];
    if (!section || !map || !table) {
      return undefined;
    }
    const [a, b] = answer.meanings;
    const [source, target] = [String(table["source"]?.[0]), String(table["target"]?.[0])];
    const [from, into] = ["delta_source", "delta_target"].map((name) => signed(Number(table[name]?.[0])));
    const before = plain?.found["patch"]?.tables["patches"];
    const edited = changes(map, table, before ? "edited" : "");
    const shown = [...(before ? [changes(map, before, "without edits")] : []), edited];
    const reach = reachOf(shown);
    const caption =
      `Change of the logit of ${b} over ${a} in ${target} when one head (H), whole attention output or MLP output of ${source} is put in at the ` +
      `decision point; red towards ${b}, blue towards ${a}. ${source} has ${from}, ${target} ${into}. Effects of single places do not add up.${fullFrom(reach)}`;
    const scale = { diverging: { center: 0, reach } };
    const title = `Every head and MLP of ${source} put into ${target}`;
    const figure: Figure = { name: "patch_sweep", title, caption, kind: { heatmap: { ...map, panels: shown, scale, unit: "logits" } } };
    const pick = (panel: number, row: number, col: number, value: string) => {
      const [layer, place] = [shown[panel]?.rows[row]?.slice(1), shown[panel]?.cols[col]];
      const head = place?.match(/^H(\d+)$/)?.[1];
      if (layer && head) {
        this.pick(`z:${layer}.${head}`, target, value);
      }
    };
    return this.section({ ...section, notes: [] }, [await this.figure(figure, pick), largestOf(answer)]);
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

/** The layout of a sweep: layers by heads, attention output and MLP output. */
function sweepMap(section: Section): Heatmap | undefined {
  const kind = section.figures.find((f) => "heatmap" in f.kind)?.kind;
  return kind && "heatmap" in kind ? kind.heatmap : undefined;
}

/** A sweep's changes, whatever its own figure shows. */
function changes(map: Heatmap, table: Table, title: string): HeatmapPanel {
  const { rows, cols } = map.panels[0] ?? { rows: [], cols: [] };
  const place = (i: number) => {
    const head = table["head"]?.[i] ?? null;
    return `L${table["layer"]?.[i]} ${head === null ? table["site"]?.[i] : `H${head}`}`;
  };
  const known = new Map((table["change"] ?? []).map((change, i) => [place(i), Number(change)]));
  const values = rows.map((row) => cols.map((col) => known.get(`${row} ${col}`) ?? null));
  return { title, rows, cols, values, intervals: [] };
}

/** The places of a sweep that move most, as a table. */
function largestOf(answer: Answer): HTMLElement {
  const table = answer.found["patch"]?.tables["patches"] ?? {};
  const at = (name: string, i: number) => table[name]?.[i] ?? null;
  const rows = (table["change"] ?? []).map((change, i) => ({ i, change: Number(change) }));
  rows.sort((a, b) => Math.abs(b.change) - Math.abs(a.change));
  const shown = make("table");
  const head = make("tr");
  head.append(
    ...["Place", "delta patched", "change", "recovery"].map((title, i) => {
      const cell = make("th", i > 0 ? "number" : "", title);
      cell.scope = "col";
      return cell;
    }),
  );
  const [thead, body] = [make("thead"), make("tbody")];
  thead.append(head);
  for (const { i, change } of rows.slice(0, 8)) {
    const head = at("head", i);
    const name = make("th", "", `layer ${at("layer", i)}, ${head === null ? String(at("site", i)) : `head ${head}`}`);
    name.scope = "row";
    const recovery = at("recovery", i);
    const cells = [signed(Number(at("delta_patched", i))), signed(change), recovery === null ? "" : percent(Number(recovery))];
    const row = make("tr");
    row.append(name, ...cells.map((text) => make("td", "number", text)));
    body.append(row);
  }
  shown.append(thead, body);
  const scroll = make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "group");
  scroll.setAttribute("aria-label", "The largest changes");
  const note = "The largest changes. Recovery: share of the difference between the two models; empty where they hardly differ.";
  scroll.append(shown, make("p", "small", note));
  return scroll;
}

const percent = (share: number) => `${Math.round(100 * share)}%`.replace("-", "−");

/** Where colours are full: the largest 1% of the cells would leave all others white. */
function reachOf(panels: HeatmapPanel[]): number | null {
  const sizes = panels.flatMap((p) => p.values.flat()).flatMap((v) => (v === null ? [] : [Math.abs(v)]));
  sizes.sort((a, b) => a - b);
  const reach = sizes[Math.floor(((sizes.length - 1) * 99) / 100)];
  return reach && reach > 0 ? reach : null;
}

/** Says so where colours are full before the largest value. */
const fullFrom = (reach: number | null) => (reach === null ? "" : ` Colours are full from ±${reach.toPrecision(2)} on, which 1% of the cells exceed.`);

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
