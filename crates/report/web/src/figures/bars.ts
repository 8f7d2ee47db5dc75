// Bars in groups, from zero, with intervals.

import { type Box, Canvas, seriesColor, shortened, textWidth } from "./canvas";
import { drawHead, drawYAxis, Grid, legendEntries, yAxisRoom } from "./frame";
import { type Drawn, type Look, type Mark, type Marks, gridSteps, panelAt } from "./marks";
import { axisOver, ticksOf, withInterval } from "./numbers";
import type { BarPanel, Bars, BarSeries, Theme } from "./types";

const LONGEST_LABEL = 150;
const TILT = -40;

/** Values, interval ends and zero of all bars. */
export function barValues(panels: BarPanel[]): number[] {
  const ends = (s: BarSeries) => s.intervals.flatMap((interval) => interval ?? []);
  const of = (s: BarSeries) => [...s.values.filter((v): v is number => v !== null), ...ends(s)];
  return [0, ...panels.flatMap((panel) => panel.series.flatMap(of))];
}

export function drawBars(theme: Theme, title: string, figure: Bars, look: Look): Drawn {
  const canvas = new Canvas(theme);
  const top = drawHead(canvas, look, title, legendEntries(figure.panels.flatMap((p) => p.series)), "box");
  const nominal = axisOver(barValues(figure.panels), [1, 0], true, 5);
  const ticks = ticksOf(nominal, 5);
  const left = yAxisRoom(canvas, nominal, ticks);
  const size = theme.tick_size;
  const labels = figure.panels.flatMap((panel) => panel.groups);
  const widest = Math.max(0, ...labels.map((label) => Math.min(LONGEST_LABEL, textWidth(theme, label, size))));
  const nGroups = Math.max(1, ...figure.panels.map((panel) => panel.groups.length));
  const flat = new Grid(canvas, look, figure.panels.length, left, top, size * 2);
  const tilted = widest > flat.plot(0).width / nGroups - 6;
  const foot = widest * Math.sin((Math.abs(TILT) * Math.PI) / 180) + 2 * size;
  const grid = tilted ? new Grid(canvas, look, figure.panels.length, left, top, foot) : flat;
  const y = nominal.copy().range([grid.plot(0).height, 0]);
  const plots = figure.panels.map((_, index) => grid.plot(index));
  const place = barPlaces(figure.panels, plots);
  figure.panels.forEach((panel, index) => {
    const plot = grid.plot(index);
    canvas.group(() => {
      grid.drawPanelTitle(index, panel.title);
      drawYAxis(canvas, plot, y, ticks, grid.isLeftmost(index));
      panel.groups.forEach((label, g) => {
        panel.series.forEach((series, s) => {
          const { x, width } = place(index, s, g);
          drawBar(canvas, series, g, { x, width }, (v) => plot.y + y(v));
        });
        const center = plot.x + ((g + 0.5) * plot.width) / panel.groups.length;
        const shown = shortened(theme, label, LONGEST_LABEL, size);
        const bottom = plot.y + plot.height;
        if (tilted) {
          canvas.text(center + size * 0.35, bottom + size, shown, { size, anchor: "end", turn: TILT });
        } else {
          canvas.text(center, bottom + 5 + size, shown, { size, anchor: "middle" });
        }
      });
      const zero = plot.y + y(0);
      canvas.line(plot.x, zero, plot.x + plot.width, zero, { paint: "muted", width: 1 });
    });
  });
  const height = grid.drawAxisNames("", figure.y_label);
  const marks = barMarks(theme, figure.panels, plots, {
    box: (panel, s, g, value) => {
      const { x, width } = place(panel, s, g);
      const [end, zero, plot] = [y(value), y(0), plots[panel] as Box];
      return { x, y: plot.y + Math.min(end, zero), width, height: Math.abs(end - zero) };
    },
    at: (panel, x) => {
      const [plot, shown] = [plots[panel] as Box, figure.panels[panel] as BarPanel];
      const share = ((x - plot.x) / plot.width) * shown.groups.length;
      const within = ((share % 1) - 0.1) / 0.8;
      return [Math.floor(within * shown.series.length), Math.floor(share)];
    },
    alongRows: false,
  });
  return { svg: canvas.finish(look.width, height), marks };
}

function barPlaces(panels: BarPanel[], plots: Box[]): (panel: number, s: number, g: number) => { x: number; width: number } {
  return (panel, s, g) => {
    const [shown, plot] = [panels[panel] as BarPanel, plots[panel] as Box];
    const group = plot.width / shown.groups.length;
    const bar = (group * 0.8) / shown.series.length;
    const gap = Math.min(2, bar * 0.1);
    return { x: plot.x + g * group + group * 0.1 + s * bar, width: bar - gap };
  };
}

function drawBar(canvas: Canvas, series: BarSeries, g: number, at: { x: number; width: number }, y: (v: number) => number): void {
  const value = series.values[g];
  if (typeof value !== "number") {
    return;
  }
  const { x, width } = at;
  const [end, zero] = [y(value), y(0)];
  canvas.rect({ x, y: Math.min(end, zero), width, height: Math.abs(end - zero) }, { series: series.color });
  const interval = series.intervals[g];
  if (interval) {
    const [center, low, high] = [x + width / 2, y(interval[0]), y(interval[1])];
    const [cap, stroke] = [Math.min(4, width * 0.2), { paint: "ink", width: 1.2 } as const];
    canvas.line(center, low, center, high, stroke);
    canvas.line(center - cap, low, center + cap, low, stroke);
    canvas.line(center - cap, high, center + cap, high, stroke);
  }
}

/** Where bars are, for either direction. A mark's row is its series, its column its group. */
interface BarPlaces {
  box(panel: number, series: number, group: number, value: number): Box;
  at(panel: number, x: number, y: number): [number, number];
  /** Whether groups stand under one another, so that up and down pass bars. */
  alongRows: boolean;
}

export function barMarks(theme: Theme, panels: BarPanel[], plots: Box[], places: BarPlaces): Marks {
  const make = (panel: number, s: number, g: number): Mark | undefined => {
    const shown = panels[panel];
    const row = Math.min(Math.max(s, 0), (shown?.series.length ?? 1) - 1);
    const series = shown?.series[row];
    const value = series?.values[g];
    if (!shown || !series || value === undefined) {
      return undefined;
    }
    const text = (of: BarSeries) => withInterval(of.values[g] ?? null, of.intervals[g]?.[0], of.intervals[g]?.[1]);
    const others = shown.series.filter((other) => other !== series);
    return {
      panel,
      row,
      col: g,
      box: places.box(panel, row, g, value ?? 0),
      name: [shown.title, shown.groups[g], series.name].filter(Boolean).join(", "),
      value: text(series),
      beside: others.map((o) => ({ name: o.name, value: text(o), swatch: seriesColor(theme, o.color)[0] })),
    };
  };
  // Bars of one panel in a row: group by group, in each the series.
  const flat = (panel: number) => {
    const shown = panels[panel];
    return { series: shown?.series.length ?? 1, groups: shown?.groups.length ?? 0 };
  };
  const shape = (panel: number) => ({ rows: 1, cols: flat(panel).series * flat(panel).groups });
  const step = gridSteps(shape, panels.length, (panel, _row, i) => {
    const { series } = flat(panel);
    const mark = make(panel, i % series, Math.floor(i / series));
    return mark && { ...mark, row: 0, col: i };
  });
  return {
    at(x, y) {
      const panel = panelAt(plots, x, y);
      return panel === undefined ? undefined : make(panel, ...places.at(panel, x, y));
    },
    step(from, dx, dy) {
      const { series } = flat(from?.panel ?? 0);
      const start = from && { ...from, row: 0, col: from.col * series + from.row };
      const by = places.alongRows ? dy || dx : dx || dy;
      const found = step(start, by, 0);
      if (!found) {
        return undefined;
      }
      const n = flat(found.panel).series;
      return make(found.panel, found.col % n, Math.floor(found.col / n));
    },
  };
}
