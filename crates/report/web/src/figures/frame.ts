// Where things stand: title, legend, a grid of panels with common axes, axis names. The arrangement of
// crates/report/src/frame.rs, for any width.

import { type Box, type Canvas, dashesOf, shortened, textWidth } from "./canvas";
import type { Look } from "./marks";
import { type Scale, tickLabels } from "./numbers";
import type { ColorKey } from "./types";

export const GAP = 12;
export const MARGIN = 16;
const SWATCH = 22;
/** Narrowest plot of panels side by side. */
const NARROWEST = 170;

export type Entry = [string, ColorKey];

/** Names with their colours, each once, in order of appearance. */
export function legendEntries(series: Iterable<{ name: string; color: ColorKey }>): Entry[] {
  const entries = new Map<string, ColorKey>();
  for (const { name, color } of series) {
    if (!entries.has(name)) {
      entries.set(name, color);
    }
  }
  return [...entries];
}

/** Title and legend of a file; returns the y at which the panels may begin. */
export function drawHead(canvas: Canvas, look: Look, title: string, entries: Entry[], sample: "line" | "box"): number {
  if (!look.whole) {
    return 4;
  }
  return drawLegend(canvas, look.width, drawTitle(canvas, look.width, title), entries, sample);
}

export function drawTitle(canvas: Canvas, width: number, title: string): number {
  const { theme } = canvas;
  const size = theme.title_size;
  let y = MARGIN;
  for (const line of wrapped(canvas, title, width - 2 * MARGIN, size)) {
    y += size * 1.25;
    canvas.text(MARGIN, y, line, { size, bold: true });
  }
  return y + GAP;
}

function wrapped(canvas: Canvas, text: string, limit: number, size: number): string[] {
  const lines: string[] = [];
  for (const long of text.split(/\s+/).filter(Boolean)) {
    const word = shortened(canvas.theme, long, limit, size, true);
    const last = lines.at(-1);
    const longer = last === undefined ? undefined : `${last} ${word}`;
    if (longer !== undefined && textWidth(canvas.theme, longer, size, true) <= limit) {
      lines[lines.length - 1] = longer;
    } else {
      lines.push(word);
    }
  }
  return lines;
}

function drawLegend(canvas: Canvas, width: number, top: number, entries: Entry[], sample: "line" | "box"): number {
  const { theme } = canvas;
  const size = theme.label_size;
  if (entries.length === 0) {
    return top;
  }
  let [x, y] = [MARGIN, top + size];
  for (const [long, color] of entries) {
    const name = shortened(theme, long, 260, size);
    const entryWidth = SWATCH + 6 + textWidth(theme, name, size);
    if (x > MARGIN && x + entryWidth > width - MARGIN) {
      [x, y] = [MARGIN, y + size * 1.6];
    }
    const middle = y - size * 0.36;
    if (sample === "line") {
      const stroke = { paint: { series: color }, width: 2.5, dashes: dashesOf(theme, color) };
      canvas.line(x, middle, x + SWATCH, middle, stroke);
    } else {
      canvas.rect({ x: x + SWATCH - 12, y: middle - 6, width: 12, height: 12 }, { series: color });
    }
    canvas.text(x + SWATCH + 6, y, name, { size });
    x += entryWidth + 2 * GAP;
  }
  return y + GAP;
}

/** A grid of equal panels. */
export class Grid {
  readonly nColumns: number;
  private readonly plotWidth: number;
  private readonly plotHeight: number;
  private readonly titleHeight: number;

  constructor(
    private readonly canvas: Canvas,
    private readonly look: Look,
    readonly nPanels: number,
    private readonly left: number,
    private readonly top: number,
    private readonly foot: number,
  ) {
    const wanted = nPanels === 1 ? 1 : nPanels === 2 || nPanels === 4 ? 2 : nPanels === 3 || nPanels <= 9 ? 3 : 4;
    const fitting = Math.floor((look.width - left - MARGIN + GAP) / (NARROWEST + GAP));
    this.nColumns = Math.max(1, Math.min(wanted, fitting));
    const room = look.width - left - MARGIN - (this.nColumns - 1) * GAP;
    this.plotWidth = room / this.nColumns;
    const tall = this.nColumns === 1 ? 340 : this.nColumns === 2 ? 230 : 185;
    this.plotHeight = Math.min(tall, Math.max(150, this.plotWidth * 0.75));
    this.titleHeight = canvas.theme.label_size * 1.9;
  }

  plot(index: number): Box {
    const [row, column] = [Math.floor(index / this.nColumns), index % this.nColumns];
    return {
      x: this.left + column * (this.plotWidth + GAP),
      y: this.top + this.titleHeight + row * (this.titleHeight + this.plotHeight + this.foot),
      width: this.plotWidth,
      height: this.plotHeight,
    };
  }

  isLeftmost(index: number): boolean {
    return index % this.nColumns === 0;
  }

  isLowest(index: number): boolean {
    return index + this.nColumns >= this.nPanels;
  }

  drawPanelTitle(index: number, title: string): void {
    const { theme } = this.canvas;
    const plot = this.plot(index);
    const size = theme.label_size;
    const shown = shortened(theme, title, plot.width, size, true);
    this.canvas.text(plot.x, plot.y - size * 0.5, shown, { size, bold: true });
  }

  /** Axis names: x under the panels, y along their left side. Returns the figure's height. */
  drawAxisNames(xLabel: string, yLabel: string): number {
    const { canvas } = this;
    const size = canvas.theme.label_size;
    const [first, last] = [this.plot(0), this.plot(this.nPanels - 1)];
    const lastColumn = this.plot(Math.min(this.nColumns, this.nPanels) - 1);
    let bottom = last.y + last.height + this.foot;
    if (xLabel) {
      bottom += size;
      const center = (first.x + lastColumn.x + lastColumn.width) / 2;
      const shown = shortened(canvas.theme, xLabel, this.look.width - MARGIN, size);
      canvas.text(center, bottom, shown, { size, paint: "muted", anchor: "middle" });
    }
    const height = last.y + last.height - first.y;
    const shown = shortened(canvas.theme, yLabel, height + 2 * this.titleHeight, size);
    const style = { size, paint: "muted", anchor: "middle", turn: -90 } as const;
    canvas.text(size * 1.1, first.y + height / 2, shown, style);
    return bottom + MARGIN;
  }
}

/** Room that the y axis' name and labels need left of the first panel. */
export function yAxisRoom(canvas: Canvas, scale: Scale, ticks: number[]): number {
  const { theme } = canvas;
  const widths = tickLabels(scale, ticks).map((label) => textWidth(theme, label, theme.tick_size));
  return theme.label_size * 1.8 + Math.max(0, ...widths) + 8;
}

/** Horizontal grid lines, with labels where `labelled`; `y` is the scale within the plot. */
export function drawYAxis(canvas: Canvas, plot: Box, y: Scale, ticks: number[], labelled: boolean): void {
  const size = canvas.theme.tick_size;
  const labels = tickLabels(y, ticks);
  ticks.forEach((tick, i) => {
    const at = plot.y + y(tick);
    canvas.line(plot.x, at, plot.x + plot.width, at, { paint: "grid", width: 1 });
    if (labelled) {
      canvas.text(plot.x - 6, at + size * 0.36, labels[i] ?? "", { size, paint: "muted", anchor: "end" });
    }
  });
}

/** The x axis' line and small ticks, with labels where `labelled`. */
export function drawXAxis(canvas: Canvas, plot: Box, x: Scale, ticks: number[], labelled: boolean): void {
  const { theme } = canvas;
  const size = theme.tick_size;
  const bottom = plot.y + plot.height;
  canvas.line(plot.x, bottom, plot.x + plot.width, bottom, { paint: "muted", width: 1 });
  const labels = tickLabels(x, ticks);
  ticks.forEach((tick, i) => {
    const at = plot.x + x(tick);
    canvas.line(at, bottom, at, bottom + 4, { paint: "muted", width: 1 });
    if (labelled) {
      const label = labels[i] ?? "";
      // The last label of a panel and the first of the next share the gap between them.
      const over = Math.max(0, textWidth(theme, label, size) + size * 0.5 - GAP) / 2;
      const within = Math.min(Math.max(at, plot.x + over), plot.x + plot.width - over);
      canvas.text(within, bottom + 5 + size, label, { size, paint: "muted", anchor: "middle" });
    }
  });
}
