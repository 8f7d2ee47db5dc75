// Cells coloured by value; panels share the scale.
//
// Cells of one colour are one path, so a map of ten thousand cells is some hundred elements: quick to draw, quick to
// paint, and an SVG file all the same.

import { type Box, Canvas, shortened } from "./canvas";
import { textOn } from "./color";
import { Colors } from "./colorbar";
import { drawTitle, GAP } from "./frame";
import { CellLayout, LONGEST_LABEL, TILT } from "./heatmap-layout";
import { type Drawn, type Look, type Mark, type Marks, gridSteps, panelAt } from "./marks";
import { numberForm, withInterval } from "./numbers";
import { textWidth } from "./canvas";
import type { Heatmap, HeatmapPanel, Theme } from "./types";

const SMALLEST_NUMBER = 7.5;

export function drawHeatmap(theme: Theme, title: string, figure: Heatmap, look: Look): Drawn {
  const canvas = new Canvas(theme);
  const values = figure.panels.flatMap((panel) => panel.values.flat()).filter((v): v is number => v !== null);
  const colors = new Colors(figure.scale, values);
  const layout = new CellLayout(canvas, figure, look, colors.room(canvas));
  const titled = figure.panels.some((panel) => panel.title !== "");
  const size = theme.label_size;
  let y = look.whole ? drawTitle(canvas, look.width, title) : 6;
  const first = y + (titled ? size * 1.8 : 0);
  const plots: Box[] = [];
  const form = numberForm(values);
  let last = y;
  let right = layout.left;
  for (let start = 0; start < figure.panels.length; start += layout.nColumns) {
    const line = figure.panels.slice(start, start + layout.nColumns);
    y += titled ? size * 1.8 : 0;
    let tallest = 0;
    line.forEach((panel, column) => {
      const x = layout.left + column * layout.pitch;
      const [width, height] = [panel.cols.length * layout.cellWidth, panel.rows.length * layout.cellHeight];
      plots.push({ x, y, width, height });
      canvas.group(() => {
        if (panel.title) {
          const room = layout.pitch - 4;
          const shown = shortened(theme, panel.title, Math.max(room, width), size, true);
          canvas.text(x, y - size * 0.6, shown, { size, bold: true });
        }
        drawCells(canvas, figure, panel, layout, { x, y }, colors, form);
        drawLabels(canvas, panel, layout, { x, y }, column === 0);
      });
      tallest = Math.max(tallest, height);
      right = Math.max(right, x + width);
    });
    last = y + tallest;
    y = last + layout.foot + GAP;
  }
  let bottom = y - GAP;
  const name = { size, paint: "muted", anchor: "middle" } as const;
  if (figure.col_label) {
    bottom += size;
    const room = look.width - 2 * GAP;
    canvas.text((layout.left + right) / 2, bottom, shortened(theme, figure.col_label, room, size), name);
  }
  if (figure.row_label) {
    canvas.text(size * 1.1, (first + last) / 2, shortened(theme, figure.row_label, Math.max(last - first, 120), size), { ...name, turn: -90 });
  }
  bottom = Math.max(bottom, colors.draw(canvas, figure.unit, right, first, last - first));
  const svg = canvas.finish(look.width, bottom + GAP);
  return { svg, marks: marksOf(figure, plots, layout) };
}

function drawCells(
  canvas: Canvas,
  figure: Heatmap,
  panel: HeatmapPanel,
  layout: CellLayout,
  corner: { x: number; y: number },
  colors: Colors,
  form: (v: number) => string,
): void {
  const byColor = new Map<string, string[]>();
  const missing: string[] = [];
  const strokes: string[] = [];
  const gap = layout.cellWidth > 5 && layout.cellHeight > 5 ? 1 : 0;
  const round = (v: number) => Math.round(v * 100) / 100;
  const [w, h] = [round(layout.cellWidth - gap), round(layout.cellHeight - gap)];
  panel.values.forEach((row, r) => {
    row.forEach((value, c) => {
      const [x, y] = [round(corner.x + c * layout.cellWidth), round(corner.y + r * layout.cellHeight)];
      const cell = `M${x} ${y}h${w}v${h}h${-w}z`;
      if (value === null) {
        missing.push(cell);
        strokes.push(`M${x} ${y + h}L${x + w} ${y}`);
        return;
      }
      const fill = colors.of(value);
      const same = byColor.get(fill);
      if (same) {
        same.push(cell);
      } else {
        byColor.set(fill, [cell]);
      }
    });
  });
  for (const [fill, cells] of byColor) {
    canvas.path(cells.join(""), { fill: { fixed: fill } });
  }
  if (missing.length > 0) {
    canvas.path(missing.join(""), { fill: "grid" });
    canvas.path(strokes.join(""), { paint: "muted", width: 0.7 });
  }
  if (!figure.annotate) {
    return;
  }
  panel.values.forEach((row, r) => {
    row.forEach((value, c) => {
      if (value !== null) {
        const box = { x: corner.x + c * layout.cellWidth, y: corner.y + r * layout.cellHeight, width: w, height: h };
        drawNumber(canvas, box, textOn(colors.of(value)), form, value, panel.intervals[r]?.[c] ?? null);
      }
    });
  });
}

/** The value, and its interval under it; what does not fit is left out. */
function drawNumber(
  canvas: Canvas,
  cell: Box,
  ink: string,
  form: (v: number) => string,
  value: number,
  interval: [number, number] | null,
): void {
  const center = cell.x + cell.width / 2;
  const middle = cell.y + cell.height / 2;
  const put = (text: string, wanted: number, bold: boolean, y: number) => {
    const size = Math.min(wanted, (wanted * (cell.width - 5)) / textWidth(canvas.theme, text, wanted, bold));
    if (size >= SMALLEST_NUMBER) {
      const style = { size: Math.floor(size * 10) / 10, bold, paint: { fixed: ink }, anchor: "middle" } as const;
      canvas.text(center, y, text, style);
    }
  };
  if (!interval) {
    put(form(value), 12.5, false, middle + 4.5);
    return;
  }
  put(form(value), 13, true, middle - 1);
  put(`${form(interval[0])} to ${form(interval[1])}`, 10, false, middle + 13);
}

function drawLabels(
  canvas: Canvas,
  panel: HeatmapPanel,
  layout: CellLayout,
  corner: { x: number; y: number },
  isFirst: boolean,
): void {
  const { theme } = canvas;
  const size = theme.tick_size;
  const rows = isFirst || !layout.sameRows ? panel.rows : [];
  rows.forEach((label, r) => {
    if (r % layout.everyRow === 0) {
      const y = corner.y + (r + 0.5) * layout.cellHeight + size * 0.36;
      canvas.text(corner.x - 8, y, shortened(theme, label, layout.longestRow, size), { size, anchor: "end" });
    }
  });
  const bottom = corner.y + panel.rows.length * layout.cellHeight;
  panel.cols.forEach((label, c) => {
    if (c % layout.everyCol !== 0) {
      return;
    }
    const center = corner.x + (c + 0.5) * layout.cellWidth;
    const shown = shortened(theme, label, LONGEST_LABEL, size);
    if (layout.tilted) {
      canvas.text(center + size * 0.35, bottom + size, shown, { size, anchor: "end", turn: TILT });
    } else {
      canvas.text(center, bottom + 5 + size, shown, { size, anchor: "middle" });
    }
  });
}

function marksOf(figure: Heatmap, plots: Box[], layout: CellLayout): Marks {
  const named = (label: string, what: string) => (what && /^\d+$/.test(label) ? `${what} ${label}` : label);
  const make = (panel: number, row: number, col: number): Mark | undefined => {
    const [shown, plot] = [figure.panels[panel], plots[panel]];
    const value = shown?.values[row]?.[col];
    if (!shown || !plot || value === undefined) {
      return undefined;
    }
    const interval = shown.intervals[row]?.[col];
    const [width, height] = [layout.cellWidth, layout.cellHeight];
    const names = [shown.title, named(shown.rows[row] ?? "", figure.row_label), named(shown.cols[col] ?? "", figure.col_label)];
    return {
      panel,
      row,
      col,
      box: { x: plot.x + col * width, y: plot.y + row * height, width, height },
      name: names.filter(Boolean).join(", "),
      value: withInterval(value, interval?.[0], interval?.[1]),
    };
  };
  const shape = (panel: number) => ({
    rows: figure.panels[panel]?.rows.length ?? 0,
    cols: figure.panels[panel]?.cols.length ?? 0,
  });
  return {
    at(x, y) {
      const panel = panelAt(plots, x, y);
      const plot = plots[panel ?? -1];
      if (panel === undefined || !plot) {
        return undefined;
      }
      return make(panel, Math.floor((y - plot.y) / layout.cellHeight), Math.floor((x - plot.x) / layout.cellWidth));
    },
    step: gridSteps(shape, figure.panels.length, make),
  };
}
