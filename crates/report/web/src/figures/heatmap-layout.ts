// How large the cells of a heat map are, and where its panels stand. The rules of crates/report/src/heatmap.rs, for any
// width.

import { type Canvas, textWidth } from "./canvas";
import { GAP, MARGIN } from "./frame";
import type { Look } from "./marks";
import type { Heatmap } from "./types";

export const LONGEST_LABEL = 210;
export const TILT = -40;
const MOST_COLUMNS = 4;
const LOWEST_LABELLED = 14;
const LOWEST_ROW = 11;
const PANEL_HEIGHT = 520;

export class CellLayout {
  readonly nColumns: number;
  readonly left: number;
  readonly pitch: number;
  readonly cellWidth: number;
  readonly cellHeight: number;
  readonly sameRows: boolean;
  readonly everyRow: number;
  readonly everyCol: number;
  readonly tilted: boolean;
  readonly foot: number;
  readonly longestRow: number;

  constructor(canvas: Canvas, figure: Heatmap, look: Look, barRoom: number) {
    const { theme } = canvas;
    const { panels } = figure;
    const narrow = look.width < 600;
    this.longestRow = narrow ? Math.min(LONGEST_LABEL, look.width * 0.28) : LONGEST_LABEL;
    const widest = (labels: string[][], limit: number) => {
      const texts = new Set(labels.flat());
      const widths = [...texts].map((label) => Math.min(limit, textWidth(theme, label, theme.tick_size)));
      return Math.max(0, ...widths);
    };
    const rowWidth = widest(panels.map((p) => p.rows), this.longestRow);
    const colWidth = widest(panels.map((p) => p.cols), LONGEST_LABEL);
    const nRows = Math.max(1, ...panels.map((p) => p.rows.length));
    const mostCols = Math.max(1, ...panels.map((p) => p.cols.length));
    const joined = panels.map((p) => p.rows.join("\n"));
    this.sameRows = joined.every((rows) => rows === joined[0]);
    const withIntervals = panels.some((p) => p.intervals.length > 0);
    const numbers = (labels: string[][]) => labels.flat().every((label) => /^\d+$/.test(label));

    const nameRoom = figure.row_label ? theme.label_size * 1.8 : 4;
    let left = nameRoom + rowWidth + 10;
    const between = (this.sameRows ? 0 : rowWidth + 10) + 1.8 * GAP;
    const fittingWidth = (n: number) => (look.width - left - barRoom - (n - 1) * between) / (n * mostCols);
    const narrowest = figure.annotate ? (withIntervals ? 80 : 40) : narrow ? 4 : 16;
    let nColumns = Math.min(panels.length, MOST_COLUMNS);
    while (nColumns > 1 && fittingWidth(nColumns) < narrowest) {
      nColumns -= 1;
    }
    // As many lines as that needs, filled evenly: two and two rather than three and one.
    this.nColumns = Math.ceil(panels.length / Math.ceil(panels.length / nColumns));
    let cellWidth = Math.min(98, Math.max(2, fittingWidth(this.nColumns)));
    if (figure.annotate) {
      this.cellHeight = withIntervals ? 46 : 36;
    } else {
      const lowest = numbers(panels.map((p) => p.rows)) ? LOWEST_ROW : LOWEST_LABELLED;
      const wanted = Math.min(28, Math.max(16, cellWidth));
      this.cellHeight = Math.min(wanted, Math.max(PANEL_HEIGHT / nRows, lowest));
      cellWidth = Math.min(cellWidth, Math.max(24, 2.5 * this.cellHeight));
    }
    this.cellWidth = cellWidth;
    this.everyRow = Math.max(1, Math.ceil(LOWEST_LABELLED / this.cellHeight - 1e-9));
    const tooWide = colWidth > cellWidth - 6;
    const numbered = numbers(panels.map((p) => p.cols));
    this.tilted = tooWide && !numbered;
    this.everyCol = tooWide && numbered ? Math.ceil((colWidth + 6) / cellWidth) : 1;
    if (this.tilted) {
      this.everyCol = Math.max(1, Math.ceil(LOWEST_LABELLED / cellWidth));
    }
    const tilt = (Math.abs(TILT) * Math.PI) / 180;
    // A tilted label hangs to the lower left; the first one must not leave the drawing.
    if (this.tilted) {
      left = Math.max(left, Math.min(nameRoom + colWidth * Math.cos(tilt) - cellWidth / 2, left + 60));
    }
    this.left = Math.max(left, MARGIN);
    this.foot = this.tilted ? colWidth * Math.sin(tilt) + 16 : theme.tick_size * 2;
    this.pitch = mostCols * cellWidth + between;
  }
}
