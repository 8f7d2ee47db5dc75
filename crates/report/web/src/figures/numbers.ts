// Numbers as text, and the axes that they stand on.

import { format } from "d3-format";
import { scaleLinear, type ScaleLinear } from "d3-scale";

export type Scale = ScaleLinear<number, number>;

/** A scale over `values`, from `from` to `to` pixels; a single value is put in its middle. */
export function axisOver(values: Iterable<number>, [from, to]: [number, number], nice: boolean, nTicks: number): Scale {
  let [min, max] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const value of values) {
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  if (min > max) {
    [min, max] = [0, 1];
  }
  if (max - min < Math.max(Math.abs(min), Math.abs(max)) * 1e-9 || max === min) {
    const half = min === 0 ? 0.5 : Math.abs(min) * 0.5;
    [min, max] = [min - half, max + half];
  }
  const scale = scaleLinear().domain([min, max]).range([from, to]);
  return nice ? scale.nice(nTicks) : scale;
}

/** Ticks of a scale; whole ones where all values are whole (layers). */
export function ticksOf(scale: Scale, nTicks: number, whole = false): number[] {
  const ticks = scale.ticks(Math.max(nTicks, 1));
  return whole ? ticks.filter((tick) => Number.isInteger(tick)) : ticks;
}

/** Labels of ticks, with as many decimals as their distance needs. */
export function tickLabels(scale: Scale, ticks: number[]): string[] {
  const largest = Math.max(...scale.domain().map(Math.abs));
  if (largest !== 0 && !(largest >= 1e-3 && largest < 1e6)) {
    return ticks.map((tick) => (tick === 0 ? "0" : format("~e")(tick)));
  }
  const label = scale.tickFormat(Math.max(ticks.length, 1));
  return ticks.map((tick) => label(tick));
}

/** How the numbers of one figure are written: all alike, with two or three digits of the largest. */
export function numberForm(values: Iterable<number>): (value: number) => string {
  let largest = 0;
  for (const value of values) {
    largest = Math.max(largest, Math.abs(value));
  }
  if (largest === 0) {
    return format(".0f");
  }
  if (largest < 0.001 || largest >= 1e6) {
    return format(".2~e");
  }
  const decimals = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(largest))));
  const kept = largest >= 0.1 ? Math.min(decimals, 2) : decimals;
  const form = format(`.${kept}f`);
  // A rounded zero has no sign.
  return (value) => form(Number(value.toFixed(kept)) === 0 ? 0 : value);
}

const plain = format(".4~g");
const tiny = format(".3~e");

/** A value for a reader who points at it. */
export function exact(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) {
    return "undefined";
  }
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? tiny(value) : plain(value);
}

/** `0.42 [0.31, 0.55]`. */
export function withInterval(value: number | null, lo?: number | null, hi?: number | null): string {
  const known = typeof lo === "number" && typeof hi === "number";
  return known ? `${exact(value)} [${exact(lo)}, ${exact(hi)}]` : exact(value);
}
