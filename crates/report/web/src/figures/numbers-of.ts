// A figure's numbers in long form, one row a value: the columns of crates/report/src/downloads.rs.

import type { Figure, Interval, Value } from "./types";

type Cell = string | number | null | boolean | undefined;

export function numbersOf(figure: Figure): { columns: string[]; rows: Cell[][] } {
  const { kind } = figure;
  if ("lines" in kind) {
    const rows = kind.lines.panels.flatMap((p) =>
      p.series.flatMap((s) => s.x.map((x, i): Cell[] => [p.title, s.name, x, s.y[i], s.lo[i], s.hi[i]])),
    );
    return { columns: ["panel", "series", "x", "y", "lo", "hi"], rows };
  }
  if ("heatmap" in kind) {
    const rows = kind.heatmap.panels.flatMap((p) =>
      p.values.flatMap((row, r) => row.map((v, c): Cell[] => [p.title, p.rows[r], p.cols[c], v, ...ends(p.intervals[r]?.[c])])),
    );
    return { columns: ["panel", "row", "column", "value", "lo", "hi"], rows };
  }
  if ("graph" in kind) {
    const rows = kind.graph.panels.flatMap((p) => [
      ...p.nodes.map((n): Cell[] => [p.title, "node", n.id, "", "", n.weight, ...ends(n.interval), n.change, n.member]),
      ...p.edges.map((e): Cell[] => [p.title, "edge", e.from, e.to, e.input, e.weight, ...ends(e.interval), e.change, ""]),
    ]);
    return { columns: ["panel", "part", "node", "receiver", "input", "weight", "lo", "hi", "change", "member"], rows };
  }
  if ("attention" in kind) {
    return { columns: [], rows: [] };
  }
  const panels = "bars" in kind ? kind.bars.panels : kind.horizontal_bars.panels;
  const rows = panels.flatMap((p) =>
    p.groups.flatMap((group, g) => p.series.map((s): Cell[] => [p.title, group, s.name, s.values[g], ...ends(s.intervals[g])])),
  );
  return { columns: ["panel", "group", "series", "value", "lo", "hi"], rows };
}

function ends(interval: Interval | undefined): [Value, Value] {
  return interval ?? [null, null];
}

/** The figure's numbers as CSV (RFC 4180). */
export function csvOf(figure: Figure): string {
  const { columns, rows } = numbersOf(figure);
  return [columns, ...rows].map((row) => `${row.map(field).join(",")}\n`).join("");
}

function field(cell: Cell): string {
  const text = cell === null || cell === undefined ? "" : String(cell);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
