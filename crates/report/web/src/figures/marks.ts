// What a pointer or the arrow keys can reach in a drawing: cells, points, bars, nodes. Places are computed, so that
// finding one costs the same in a map of ten cells and of ten thousand.

import type { Box } from "./canvas";

/** Something with a value. `panel`, `row`, `col` are those of the figure that was drawn. */
export interface Mark {
  panel: number;
  row: number;
  col: number;
  box: Box;
  /** What it is: `strategic − base, layer 12, head 3`. */
  name: string;
  /** Its value, with interval. */
  value: string;
  /** Others at the same place, to compare with. */
  beside?: { name: string; value: string; swatch?: string }[];
}

export interface Marks {
  /** What lies at a point of the drawing. */
  at(x: number, y: number): Mark | undefined;
  /** The neighbour in a direction; the first mark where there is none to start from. */
  step(from: Mark | undefined, dx: number, dy: number): Mark | undefined;
}

/** A drawing with what can be reached in it. */
export interface Drawn {
  svg: SVGSVGElement;
  marks: Marks;
}

export interface Look {
  width: number;
  /** Whether title and legend are part of the drawing, as in a file; on the page they stand beside it. */
  whole: boolean;
}

/** The panel whose plot holds the point. */
export function panelAt(plots: Box[], x: number, y: number): number | undefined {
  const found = plots.findIndex((p) => x >= p.x && x <= p.x + p.width && y >= p.y && y <= p.y + p.height);
  return found < 0 ? undefined : found;
}

/** Steps through panels of rows and columns of marks; leaving one at a side enters the next. */
export function gridSteps(
  shape: (panel: number) => { rows: number; cols: number },
  nPanels: number,
  make: (panel: number, row: number, col: number) => Mark | undefined,
): Marks["step"] {
  const place = (panel: number, row: number, col: number) => {
    const { rows, cols } = shape(panel);
    const within = (i: number, n: number) => Math.min(Math.max(i, 0), n - 1);
    return make(panel, within(row, rows), within(col, cols));
  };
  return (from, dx, dy) => {
    if (!from) {
      return place(0, 0, 0);
    }
    const { rows, cols } = shape(from.panel);
    const [row, col] = [from.row + dy, from.col + dx];
    if (col < 0 || row < 0) {
      const before = from.panel - 1;
      if (before < 0) {
        return from;
      }
      const end = shape(before);
      return col < 0 ? place(before, from.row, end.cols - 1) : place(before, end.rows - 1, from.col);
    }
    if (col >= cols || row >= rows) {
      const after = from.panel + 1;
      if (after >= nPanels) {
        return from;
      }
      return col >= cols ? place(after, from.row, 0) : place(after, 0, from.col);
    }
    return place(from.panel, row, col);
  };
}
