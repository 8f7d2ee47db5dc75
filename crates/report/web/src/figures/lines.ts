// Curves with intervals, in panels that share both axes.

import { area, line } from "d3-shape";
import { Canvas, dashesOf, seriesColor } from "./canvas";
import { drawHead, drawXAxis, drawYAxis, Grid, legendEntries, yAxisRoom } from "./frame";
import { type Drawn, type Look, type Mark, type Marks, gridSteps, panelAt } from "./marks";
import { axisOver, exact, type Scale, ticksOf, withInterval } from "./numbers";
import type { LinePanel, Lines, Series, Theme } from "./types";

/** Opacity of an interval band: several may lie over one another. */
const BAND = 0.16;

const known = (values: (number | null)[]) => values.filter((v): v is number => v !== null);

export function drawLines(theme: Theme, title: string, figure: Lines, look: Look): Drawn {
  const canvas = new Canvas(theme);
  const all = figure.panels.flatMap((panel) => panel.series);
  const top = drawHead(canvas, look, title, legendEntries(all), "line");
  const values = all.flatMap((s) => [...known(s.y), ...known(s.lo), ...known(s.hi)]);
  if (figure.zero_line) {
    values.push(0);
  }
  const nominal = axisOver(values, [1, 0], true, 5);
  const yTicks = ticksOf(nominal, 5);
  const left = yAxisRoom(canvas, nominal, yTicks);
  const grid = new Grid(canvas, look, figure.panels.length, left, top, theme.tick_size * 1.9);
  const plots = figure.panels.map((_, index) => grid.plot(index));
  const first = grid.plot(0);
  const xs = all.flatMap((s) => s.x);
  const x = axisOver(xs, [0, first.width], false, 5);
  const y = nominal.copy().range([first.height, 0]);
  const xTicks = ticksOf(x, first.width / 45, xs.every(Number.isInteger));
  figure.panels.forEach((panel, index) => {
    const plot = grid.plot(index);
    canvas.group(() => {
      grid.drawPanelTitle(index, panel.title);
      drawYAxis(canvas, plot, y, yTicks, grid.isLeftmost(index));
      drawXAxis(canvas, plot, x, xTicks, grid.isLowest(index));
      if (figure.zero_line) {
        const zero = plot.y + y(0);
        const stroke = { paint: "muted", width: 1.2, dashes: "4 3" } as const;
        canvas.line(plot.x, zero, plot.x + plot.width, zero, stroke);
      }
      const at: At = { x: (v) => plot.x + x(v), y: (v) => plot.y + y(v) };
      for (const series of panel.series) {
        drawBand(canvas, series, at);
      }
      for (const series of panel.series) {
        drawCurve(canvas, series, at);
      }
    });
  });
  const height = grid.drawAxisNames(figure.x_label, figure.y_label);
  const marks = marksOf(theme, figure, plots, x, y);
  return { svg: canvas.finish(look.width, height), marks };
}

interface At {
  x(v: number): number;
  y(v: number): number;
}

function drawBand(canvas: Canvas, series: Series, at: At): void {
  const indices = series.x.map((_, i) => i);
  const defined = (i: number) => typeof series.lo[i] === "number" && typeof series.hi[i] === "number";
  const alone = (i: number) => defined(i) && !defined(i - 1) && !defined(i + 1);
  const band = area<number>()
    .defined(defined)
    .x((i) => at.x(series.x[i] ?? 0))
    .y0((i) => at.y(series.lo[i] ?? 0))
    .y1((i) => at.y(series.hi[i] ?? 0))
    .digits(2);
  const d = band(indices);
  if (d) {
    canvas.path(d, { fill: { series: series.color }, opacity: BAND });
  }
  for (const i of indices.filter(alone)) {
    const [x, lo, hi] = [at.x(series.x[i] ?? 0), at.y(series.lo[i] ?? 0), at.y(series.hi[i] ?? 0)];
    canvas.line(x, lo, x, hi, { paint: { series: series.color }, width: 1.2 });
  }
}

function drawCurve(canvas: Canvas, series: Series, at: At): void {
  const indices = series.x.map((_, i) => i);
  const defined = (i: number) => typeof series.y[i] === "number";
  const curve = line<number>()
    .defined(defined)
    .x((i) => at.x(series.x[i] ?? 0))
    .y((i) => at.y(series.y[i] ?? 0))
    .digits(2);
  const d = curve(indices);
  if (d) {
    const dashes = dashesOf(canvas.theme, series.color);
    canvas.path(d, { paint: { series: series.color }, width: 1.9, dashes });
  }
  for (const i of indices.filter((i) => defined(i) && !defined(i - 1) && !defined(i + 1))) {
    canvas.dot(at.x(series.x[i] ?? 0), at.y(series.y[i] ?? 0), 2.5, { series: series.color });
  }
}

type Boxes = { x: number; y: number; width: number; height: number }[];

function marksOf(theme: Theme, figure: Lines, plots: Boxes, x: Scale, y: Scale): Marks {
  const unit = figure.x_label || "x";
  const make = (panel: number, row: number, col: number): Mark | undefined => {
    const [shown, plot] = [figure.panels[panel], plots[panel]];
    const series = shown?.series[row];
    const at = series?.x[col];
    if (!shown || !plot || !series || at === undefined) {
      return undefined;
    }
    const value = series.y[col] ?? null;
    const [px, py] = [plot.x + x(at), plot.y + y(value ?? y.domain()[0] ?? 0)];
    const beside = shown.series
      .filter((other) => other !== series)
      .map((other) => valueAt(other, at))
      .map((other) => ({ ...other, swatch: seriesColor(theme, other.color)[0] }));
    return {
      panel,
      row,
      col,
      box: { x: px - 4, y: py - 4, width: 8, height: 8 },
      name: [shown.title, series.name, `${unit} ${exact(at)}`].filter(Boolean).join(", "),
      value: withInterval(value, series.lo[col], series.hi[col]),
      beside,
    };
  };
  const shape = (panel: number) => {
    const series = figure.panels[panel]?.series ?? [];
    return { rows: series.length, cols: Math.max(1, ...series.map((s) => s.x.length)) };
  };
  return {
    at(px, py) {
      const panel = panelAt(plots, px, py);
      const [shown, plot] = [figure.panels[panel ?? -1], plots[panel ?? -1]];
      if (panel === undefined || !shown || !plot) {
        return undefined;
      }
      const [row, col] = nearest(shown, x.invert(px - plot.x), (v) => Math.abs(plot.y + y(v) - py));
      return make(panel, row, col);
    },
    step: gridSteps(shape, figure.panels.length, make),
  };
}

function valueAt(series: Series, x: number): { name: string; value: string; color: Series["color"] } {
  const col = series.x.indexOf(x);
  return { name: series.name, value: withInterval(series.y[col] ?? null, series.lo[col], series.hi[col]), color: series.color };
}

/** Series and point nearest to a place: first the position, then the value. */
function nearest(panel: LinePanel, x: number, distance: (y: number) => number): [number, number] {
  let best: [number, number] = [0, 0];
  let least = Number.POSITIVE_INFINITY;
  let nearestX = Number.POSITIVE_INFINITY;
  panel.series.forEach((series, row) => {
    const col = closest(series.x, x);
    const [dx, value] = [Math.abs((series.x[col] ?? 0) - x), series.y[col]];
    if (typeof value !== "number") {
      return;
    }
    const dy = distance(value);
    if (dx < nearestX - 1e-9 || (dx < nearestX + 1e-9 && dy < least)) {
      [best, least, nearestX] = [[row, col], dy, dx];
    }
  });
  return best;
}

function closest(xs: number[], x: number): number {
  let [low, high] = [0, xs.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((xs[middle] ?? 0) <= x) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return Math.abs((xs[low] ?? 0) - x) <= Math.abs((xs[high] ?? 0) - x) ? low : high;
}
