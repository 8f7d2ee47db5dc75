// Bars from zero to the left and right, one group under the other: long names stay level, and long lists stay legible.

import { type Box, Canvas, shortened, textWidth } from "./canvas";
import { barMarks, barValues } from "./bars";
import { drawHead, drawXAxis, GAP, legendEntries, MARGIN } from "./frame";
import type { Drawn, Look } from "./marks";
import { axisOver, type Scale, ticksOf } from "./numbers";
import type { BarPanel, BarSeries, HorizontalBars, Theme } from "./types";

const LONGEST_LABEL = 210;
const NARROWEST = 190;
const LOWEST_GROUP = 17;
const LOWEST_BAR = 7;

export function drawHorizontalBars(theme: Theme, title: string, figure: HorizontalBars, look: Look): Drawn {
  const canvas = new Canvas(theme);
  const { panels } = figure;
  const all = panels.flatMap((panel) => panel.series);
  let y = drawHead(canvas, look, title, legendEntries(all), "box");
  const size = theme.tick_size;
  const longest = Math.min(LONGEST_LABEL, look.width * 0.42);
  const groups = panels.flatMap((panel) => panel.groups);
  const labels = 10 + Math.max(0, ...groups.map((label) => Math.min(longest, textWidth(theme, label, size))));
  const widthOf = (n: number) => (look.width - 2 * MARGIN - (n - 1) * GAP) / n - labels;
  let fitting = Math.min(panels.length, 3);
  while (fitting > 1 && widthOf(fitting) < NARROWEST) {
    fitting -= 1;
  }
  const nColumns = Math.ceil(panels.length / Math.ceil(panels.length / fitting));
  const plotWidth = widthOf(nColumns);
  const nTicks = Math.max(2, plotWidth / 70);
  const x = axisOver(barValues(panels), [0, plotWidth], true, nTicks);
  const ticks = ticksOf(x, nTicks);
  const nSeries = Math.max(1, ...panels.map((panel) => panel.series.length));
  const groupHeight = Math.max(LOWEST_GROUP, LOWEST_BAR * nSeries + 5);
  const plots: Box[] = [];
  for (let start = 0; start < panels.length; start += nColumns) {
    const line = panels.slice(start, start + nColumns);
    if (line.some((panel) => panel.title)) {
      y += theme.label_size * 1.6;
    }
    line.forEach((panel, column) => {
      const plot = {
        x: MARGIN + labels + column * (labels + plotWidth + GAP),
        y,
        width: plotWidth,
        height: panel.groups.length * groupHeight,
      };
      plots.push(plot);
      canvas.group(() => drawPanel(canvas, panel, plot, x, ticks, longest));
    });
    y += Math.max(...line.map((panel) => panel.groups.length)) * groupHeight + size * 2 + GAP;
  }
  if (figure.x_label) {
    y += theme.label_size * 0.5;
    const center = (labels + look.width) / 2;
    const shown = shortened(theme, figure.x_label, look.width - MARGIN, theme.label_size);
    const room = textWidth(theme, shown, theme.label_size) / 2;
    const at = Math.min(center, look.width - room - 4);
    canvas.text(at, y, shown, { size: theme.label_size, paint: "muted", anchor: "middle" });
  }
  const marks = barMarks(theme, panels, plots, {
    box: (panel, s, g, value) => {
      const [shown, plot] = [panels[panel] as BarPanel, plots[panel] as Box];
      const { top, height } = barPlace(shown, plot, s, g);
      const [end, zero] = [x(value), x(0)];
      return { x: plot.x + Math.min(end, zero), y: top, width: Math.abs(end - zero), height };
    },
    at: (panel, _x, py) => {
      const [shown, plot] = [panels[panel] as BarPanel, plots[panel] as Box];
      const share = ((py - plot.y) / plot.height) * shown.groups.length;
      const within = ((share % 1) - 0.12) / 0.76;
      return [Math.floor(within * shown.series.length), Math.floor(share)];
    },
    alongRows: true,
  });
  return { svg: canvas.finish(look.width, y + MARGIN), marks };
}

function barPlace(panel: BarPanel, plot: Box, s: number, g: number): { top: number; height: number } {
  const group = plot.height / panel.groups.length;
  const bar = (group * 0.76) / panel.series.length;
  return { top: plot.y + g * group + group * 0.12 + s * bar, height: bar - Math.min(1, bar * 0.1) };
}

function drawPanel(canvas: Canvas, panel: BarPanel, plot: Box, x: Scale, ticks: number[], longest: number): void {
  const { theme } = canvas;
  const size = theme.tick_size;
  const bottom = plot.y + plot.height;
  if (panel.title) {
    const shown = shortened(theme, panel.title, plot.width, theme.label_size, true);
    canvas.text(plot.x, plot.y - theme.label_size * 0.5, shown, { size: theme.label_size, bold: true });
  }
  for (const tick of ticks) {
    canvas.line(plot.x + x(tick), plot.y, plot.x + x(tick), bottom, { paint: "grid", width: 1 });
  }
  drawXAxis(canvas, plot, x, ticks, true);
  panel.groups.forEach((label, g) => {
    panel.series.forEach((series, s) => {
      drawBar(canvas, series, g, barPlace(panel, plot, s, g), (v) => plot.x + x(v));
    });
    const middle = plot.y + ((g + 0.5) * plot.height) / panel.groups.length + size * 0.36;
    canvas.text(plot.x - 7, middle, shortened(theme, label, longest, size), { size, anchor: "end" });
  });
  canvas.line(plot.x + x(0), plot.y, plot.x + x(0), bottom, { paint: "muted", width: 1 });
}

function drawBar(canvas: Canvas, series: BarSeries, g: number, at: { top: number; height: number }, x: (v: number) => number): void {
  const value = series.values[g];
  if (typeof value !== "number") {
    return;
  }
  const [end, zero] = [x(value), x(0)];
  const box = { x: Math.min(end, zero), y: at.top, width: Math.abs(end - zero), height: at.height };
  canvas.rect(box, { series: series.color });
  const interval = series.intervals[g];
  if (interval) {
    const [middle, low, high] = [at.top + at.height / 2, x(interval[0]), x(interval[1])];
    const [cap, stroke] = [Math.min(4, at.height * 0.2), { paint: "ink", width: 1.2 } as const];
    canvas.line(low, middle, high, middle, stroke);
    canvas.line(low, middle - cap, low, middle + cap, stroke);
    canvas.line(high, middle - cap, high, middle + cap, stroke);
  }
}
