// Which part of a figure is shown: of the chosen models, without what one prompt has no part in. A view knows which cell of
// the whole figure each of its cells is.

import type { BarPanel, Figure, HeatmapPanel, Kind, LinePanel } from "./types";

export interface Origin {
  panel: number;
  row: number;
  col: number;
}

export interface View {
  figure: Figure;
  /** Where a cell of the view stands in the whole figure. */
  origin(panel: number, row: number, col: number): Origin;
}

/** Says whether something with this name is shown. */
export type Shown = (name: string) => boolean;

export const everything: Shown = () => true;

/** What names no model is shown; what names models, if all those that it names are chosen. The base model counts only
 * where it stands alone: `strategic − base` belongs to `strategic`. */
export function ofModels(all: string[], chosen: ReadonlySet<string>): Shown {
  if (all.every((name) => chosen.has(name))) {
    return everything;
  }
  const base = all[0];
  const known = new Map<string, boolean>();
  return (name) => {
    let shown = known.get(name);
    if (shown === undefined) {
      const named = all.filter((model) => mentions(name, model));
      const tuned = named.filter((model) => model !== base);
      shown = (tuned.length > 0 ? tuned : named).every((model) => chosen.has(model));
      known.set(name, shown);
    }
    return shown;
  };
}

/** Whether `model` stands in `text` as a whole word. */
function mentions(text: string, model: string): boolean {
  const inside = (c: string | undefined) => c !== undefined && /[\p{L}\p{N}_.-]/u.test(c);
  for (let at = text.indexOf(model); at >= 0; at = text.indexOf(model, at + 1)) {
    if (!inside(text[at - 1]) && !inside(text[at + model.length])) {
      return true;
    }
  }
  return false;
}

/** The part of a figure that is shown; undefined if nothing is. `dropEmpty`: also leaves out panels and named columns
 * without any value, which a single prompt has no part in. */
export function viewOf(figure: Figure, shown: Shown, dropEmpty: boolean): View | undefined {
  const { kind } = figure;
  if ("lines" in kind) {
    const filled = (s: LinePanel["series"][number]) => !dropEmpty || s.y.some((v) => v !== null);
    const kept = kind.lines.panels.map((panel) => indices(panel.series, (s) => shown(s.name) && filled(s)));
    const panels = indices(kind.lines.panels, (panel, p) => shown(panel.title) && (kept[p]?.length ?? 0) > 0);
    const of = (p: number): LinePanel => {
      const panel = kind.lines.panels[p] as LinePanel;
      return { ...panel, series: pick(panel.series, kept[p] ?? []) };
    };
    return made(figure, { lines: { ...kind.lines, panels: panels.map(of) } }, panels, kept, []);
  }
  if ("heatmap" in kind) {
    const all = kind.heatmap.panels;
    const filled = (panel: HeatmapPanel, c: number) =>
      !dropEmpty || /^\d+$/.test(panel.cols[c] ?? "") || panel.values.some((row) => row[c] !== null);
    const rows = all.map((panel) => indices(panel.rows, (name) => shown(name)));
    const cols = all.map((panel) => indices(panel.cols, (name, c) => shown(name) && filled(panel, c)));
    const some = (p: number) => !dropEmpty || all[p]?.values.some((row) => row.some((v) => v !== null)) === true;
    const panels = indices(all, (panel, p) => shown(panel.title) && !!rows[p]?.length && !!cols[p]?.length && some(p));
    const of = (p: number): HeatmapPanel => {
      const [panel, r, c] = [all[p] as HeatmapPanel, rows[p] ?? [], cols[p] ?? []];
      return {
        title: panel.title,
        rows: pick(panel.rows, r),
        cols: pick(panel.cols, c),
        values: pick(panel.values, r).map((row) => pick(row, c)),
        intervals: panel.intervals.length > 0 ? pick(panel.intervals, r).map((row) => pick(row, c)) : [],
      };
    };
    return made(figure, { heatmap: { ...kind.heatmap, panels: panels.map(of) } }, panels, rows, cols);
  }
  if ("graph" in kind) {
    const panels = indices(kind.graph.panels, (panel) => shown(panel.title));
    return made(figure, { graph: { ...kind.graph, panels: pick(kind.graph.panels, panels) } }, panels, [], []);
  }
  if ("attention" in kind) {
    return made(figure, kind, [0], [], []);
  }
  const all = "bars" in kind ? kind.bars.panels : kind.horizontal_bars.panels;
  const filled = (panel: BarPanel, g: number) => !dropEmpty || panel.series.some((s) => s.values[g] !== null);
  const kept = all.map((panel) => indices(panel.series, (s) => shown(s.name)));
  const groups = all.map((panel) => indices(panel.groups, (name, g) => shown(name) && filled(panel, g)));
  const panels = indices(all, (panel, p) => shown(panel.title) && !!kept[p]?.length && !!groups[p]?.length);
  const of = (p: number): BarPanel => {
    const [panel, g] = [all[p] as BarPanel, groups[p] ?? []];
    const series = pick(panel.series, kept[p] ?? []).map((s) => ({
      ...s,
      values: pick(s.values, g),
      intervals: s.intervals.length > 0 ? pick(s.intervals, g) : [],
    }));
    return { ...panel, groups: pick(panel.groups, g), series };
  };
  const shownPanels = panels.map(of);
  const part: Kind =
    "bars" in kind
      ? { bars: { ...kind.bars, panels: shownPanels } }
      : { horizontal_bars: { ...kind.horizontal_bars, panels: shownPanels } };
  return made(figure, part, panels, kept, groups);
}

function made(figure: Figure, kind: Kind, panels: number[], rows: number[][], cols: number[][]): View | undefined {
  if (panels.length === 0) {
    return undefined;
  }
  return {
    figure: { ...figure, kind },
    origin(panel, row, col) {
      const p = panels[panel] ?? panel;
      return { panel: p, row: rows[p]?.[row] ?? row, col: cols[p]?.[col] ?? col };
    },
  };
}

function indices<T>(items: T[], keep: (item: T, i: number) => boolean): number[] {
  return items.flatMap((item, i) => (keep(item, i) ? [i] : []));
}

function pick<T>(items: T[], which: number[]): T[] {
  return which.map((i) => items[i] as T);
}
