// From values to colours, and the bar that says which value has which colour.

import { type Canvas, shortened, textWidth } from "./canvas";
import { diverging, sequential } from "./color";
import { GAP, MARGIN } from "./frame";
import { axisOver, type Scale, tickLabels, ticksOf } from "./numbers";
import type { HeatmapScale } from "./types";

const BAR_WIDTH = 14;
const POINT = 9;
const N_STEPS = 64;

export class Colors {
  private readonly low: number;
  private readonly high: number;
  private readonly signed: boolean;
  private readonly beyond: { below: boolean; above: boolean };

  constructor(scale: HeatmapScale, values: number[]) {
    this.signed = "diverging" in scale;
    if ("diverging" in scale) {
      const { center } = scale.diverging;
      const reach = scale.diverging.reach ?? values.reduce((most, v) => Math.max(most, Math.abs(v - center)), 0);
      [this.low, this.high] = [center - (reach > 0 ? reach : 1), center + (reach > 0 ? reach : 1)];
    } else {
      const { min, max } = scale.sequential;
      [this.low, this.high] = [min, max > min ? max : min + 1];
    }
    // What rounding alone puts outside is not outside.
    const slack = (this.high / 2 - this.low / 2) * 1e-6;
    this.beyond = {
      below: values.some((v) => v < this.low - slack),
      above: values.some((v) => v > this.high + slack),
    };
  }

  of(value: number): string {
    const share = (value / 2 - this.low / 2) / (this.high / 2 - this.low / 2);
    return this.signed ? diverging(2 * share - 1) : sequential(share);
  }

  private axis(height: number): [Scale, number[]] {
    const scale = axisOver([this.low, this.high], [height, 0], false, 4);
    return [scale, ticksOf(scale, 4)];
  }

  /** Room that the bar needs right of the panels, margin included. */
  room(canvas: Canvas): number {
    return 1.5 * GAP + BAR_WIDTH + 6 + this.widest(canvas) + 8 + canvas.theme.label_size + MARGIN;
  }

  private widest(canvas: Canvas): number {
    const [scale, ticks] = this.axis(1);
    const size = canvas.theme.tick_size;
    return Math.max(0, ...tickLabels(scale, ticks).map((label) => textWidth(canvas.theme, label, size)));
  }

  /** Draws the bar; returns the y of its lower end. An end beyond which values lie is a point. */
  draw(canvas: Canvas, unit: string, right: number, upper: number, room: number): number {
    const { theme } = canvas;
    const x = right + 1.5 * GAP;
    const height = Math.min(300, Math.max(150, room));
    const top = upper + (this.beyond.above ? POINT : 0);
    const [scale, ticks] = this.axis(height);
    for (let step = 0; step < N_STEPS; step++) {
      const share = (step + 0.5) / N_STEPS;
      const value = this.low * (1 - share) + this.high * share;
      const y = top + height * (1 - (step + 1) / N_STEPS);
      // A hair taller than a step, or the renderer leaves light seams between steps.
      canvas.rect({ x, y, width: BAR_WIDTH, height: height / N_STEPS + 0.4 }, { fixed: this.of(value) });
    }
    const point = (y: number, tip: number, value: number) => {
      const d = `M${x} ${y}H${x + BAR_WIDTH}L${x + BAR_WIDTH / 2} ${tip}Z`;
      canvas.path(d, { fill: { fixed: this.of(value) } });
    };
    if (this.beyond.above) {
      point(top, top - POINT + 1, this.high);
    }
    if (this.beyond.below) {
      point(top + height, top + height + POINT - 1, this.low);
    }
    const labels = tickLabels(scale, ticks);
    ticks.forEach((tick, i) => {
      const y = top + scale(tick);
      canvas.line(x + BAR_WIDTH, y, x + BAR_WIDTH + 4, y, { paint: "muted", width: 1 });
      const size = theme.tick_size;
      canvas.text(x + BAR_WIDTH + 6, y + size * 0.36, labels[i] ?? "", { size, paint: "muted" });
    });
    const size = theme.label_size;
    const unitX = x + BAR_WIDTH + 6 + this.widest(canvas) + 8 + size * 0.8;
    const style = { size, paint: "muted", anchor: "middle", turn: -90 } as const;
    canvas.text(unitX, top + height / 2, shortened(theme, unit, height, size), style);
    return top + height + (this.beyond.below ? POINT : 0);
  }
}
