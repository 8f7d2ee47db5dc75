// Values of single prompts: unpacked from a figure, and put in the place of its averages.

import type { BarPanel, ByPrompt, Figure, HeatmapPanel, Kind, LinePanel, Value } from "./types";

/** Unpacked values: `[prompt][panel][row][column]`, NaN where a prompt has no part. */
export class Slices {
  private readonly starts: number[][];
  private readonly nCells: number;

  constructor(
    readonly prompts: string[],
    private readonly values: Float32Array,
    kind: Kind,
  ) {
    let at = 0;
    this.starts = shapeOf(kind).map((rows) =>
      rows.map((n) => {
        at += n;
        return at - n;
      }),
    );
    this.nCells = at;
    if (values.length !== prompts.length * at) {
      throw new Error(`${values.length} values for ${prompts.length} prompts of ${at} cells`);
    }
  }

  at(prompt: number, panel: number, row: number, col: number): Value {
    const start = this.starts[panel]?.[row] ?? 0;
    const value = this.values[prompt * this.nCells + start + col];
    return value === undefined || Number.isNaN(value) ? null : value;
  }

  /** A cell's prompts with their values, the largest first. */
  ofCell(panel: number, row: number, col: number): { prompt: string; value: number }[] {
    const found = this.prompts.map((prompt, i) => ({ prompt, value: this.at(i, panel, row, col) }));
    const known = found.filter((f): f is { prompt: string; value: number } => f.value !== null);
    return known.sort((a, b) => b.value - a.value);
  }

  count(panel: number, row: number, col: number): number {
    let n = 0;
    for (let i = 0; i < this.prompts.length; i++) {
      n += this.at(i, panel, row, col) === null ? 0 : 1;
    }
    return n;
  }
}

/** Lengths of the rows of each panel: the order of `ByPrompt::new`. */
function shapeOf(kind: Kind): number[][] {
  if ("lines" in kind) {
    return kind.lines.panels.map((panel) => panel.series.map((series) => series.x.length));
  }
  if ("heatmap" in kind) {
    return kind.heatmap.panels.map((panel) => panel.rows.map(() => panel.cols.length));
  }
  if ("graph" in kind) {
    return kind.graph.panels.map((panel) => [panel.nodes.length, panel.edges.length]);
  }
  if ("attention" in kind) {
    return [];
  }
  const panels = "bars" in kind ? kind.bars.panels : kind.horizontal_bars.panels;
  return panels.map((panel) => panel.series.map(() => panel.groups.length));
}

const unpacked = new WeakMap<ByPrompt, Promise<Slices>>();

/** A figure's slices; undefined where it has none. Unpacked once. */
export function slicesOf(figure: Figure): Promise<Slices> | undefined {
  const packed = figure.by_prompt;
  if (!packed) {
    return undefined;
  }
  let slices = unpacked.get(packed);
  if (!slices) {
    slices = inflated(packed.values).then((buffer) => new Slices(packed.prompts, new Float32Array(buffer), figure.kind));
    unpacked.set(packed, slices);
  }
  return slices;
}

/** The bytes behind base64 of zlib. */
export async function inflated(base64: string): Promise<ArrayBuffer> {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

/** The figure with the values of one prompt; undefined where it has no part in the figure. */
export function ofPrompt(figure: Figure, slices: Slices, id: string): Figure | undefined {
  const prompt = slices.prompts.indexOf(id);
  if (prompt < 0) {
    return undefined;
  }
  const at = (panel: number, row: number, col: number) => slices.at(prompt, panel, row, col);
  return { ...figure, kind: sliced(figure.kind, at) };
}

type At = (panel: number, row: number, col: number) => Value;

function sliced(kind: Kind, at: At): Kind {
  if ("lines" in kind) {
    const panel = (of: LinePanel, p: number): LinePanel => ({
      ...of,
      series: of.series.map((s, r) => ({ ...s, y: s.y.map((_, c) => at(p, r, c)), lo: [], hi: [] })),
    });
    return { lines: { ...kind.lines, panels: kind.lines.panels.map(panel) } };
  }
  if ("heatmap" in kind) {
    const panel = (of: HeatmapPanel, p: number): HeatmapPanel => ({
      ...of,
      values: of.values.map((row, r) => row.map((_, c) => at(p, r, c))),
      intervals: [],
    });
    return { heatmap: { ...kind.heatmap, panels: kind.heatmap.panels.map(panel) } };
  }
  if ("graph" in kind || "attention" in kind) {
    return kind;
  }
  const panel = (of: BarPanel, p: number): BarPanel => ({
    ...of,
    series: of.series.map((s, r) => ({ ...s, values: s.values.map((_, c) => at(p, r, c)), intervals: [] })),
  });
  return "bars" in kind
    ? { bars: { ...kind.bars, panels: kind.bars.panels.map(panel) } }
    : { horizontal_bars: { ...kind.horizontal_bars, panels: kind.horizontal_bars.panels.map(panel) } };
}
