// A small SVG writer on the DOM. Colours are written as attributes, which make an exported file complete, and as classes,
// by which the page's style sheet follows light and dark: the convention of crates/report/src/canvas.rs.

import type { ColorKey, Theme } from "./types";

const NS = "http://www.w3.org/2000/svg";

/** A colour of the theme by name, a series' colour, or a fixed one. */
export type Paint = "ink" | "muted" | "grid" | "paper" | { series: ColorKey } | { fixed: string };

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface TextStyle {
  size: number;
  paint?: Paint;
  anchor?: "start" | "middle" | "end";
  bold?: boolean;
  turn?: number;
}

export interface Stroke {
  paint: Paint;
  width: number;
  dashes?: string | null;
  opacity?: number;
}

const rounded = (v: number) => String(Math.round(v * 100) / 100);

export class Canvas {
  readonly svg: SVGSVGElement;
  private target: Element;

  constructor(readonly theme: Theme) {
    this.svg = document.createElementNS(NS, "svg");
    this.svg.setAttribute("xmlns", NS);
    this.svg.setAttribute("font-family", theme.family);
    this.target = this.svg;
  }

  /** Sets the size once it is known, and paints the paper behind everything. */
  finish(width: number, height: number): SVGSVGElement {
    const size = [Math.ceil(width), Math.ceil(height)] as const;
    this.svg.setAttribute("width", String(size[0]));
    this.svg.setAttribute("height", String(size[1]));
    this.svg.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
    const paper = document.createElementNS(NS, "rect");
    paper.setAttribute("width", String(size[0]));
    paper.setAttribute("height", String(size[1]));
    this.painted(paper, "fill", "paper");
    this.svg.prepend(paper);
    return this.svg;
  }

  /** What `draw` puts goes into a group of its own. */
  group(draw: () => void): SVGGElement {
    const before = this.target;
    const group = document.createElementNS(NS, "g");
    before.append(group);
    this.target = group;
    draw();
    this.target = before;
    return group;
  }

  rect(box: Box, fill: Paint, opacity = 1): void {
    const rect = this.add("rect", fill, "fill");
    for (const key of ["x", "y", "width", "height"] as const) {
      rect.setAttribute(key, rounded(box[key]));
    }
    if (opacity < 1) {
      rect.setAttribute("fill-opacity", String(opacity));
    }
  }

  line(x1: number, y1: number, x2: number, y2: number, stroke: Stroke): void {
    const line = this.add("line", stroke.paint, "stroke");
    const at = { x1, y1, x2, y2 };
    for (const [key, value] of Object.entries(at)) {
      line.setAttribute(key, rounded(value));
    }
    stroked(line, stroke);
  }

  /** A path: stroked, or filled where `fill` says so. */
  path(d: string, look: { fill: Paint; opacity?: number } | Stroke): void {
    if ("fill" in look) {
      const path = this.add("path", look.fill, "fill");
      path.setAttribute("d", d);
      if (look.opacity !== undefined) {
        path.setAttribute("fill-opacity", String(look.opacity));
      }
      return;
    }
    const path = this.add("path", look.paint, "stroke");
    path.setAttribute("d", d);
    path.setAttribute("fill", "none");
    path.setAttribute("stroke-linejoin", "round");
    stroked(path, look);
  }

  dot(x: number, y: number, radius: number, fill: Paint): void {
    const dot = this.add("circle", fill, "fill");
    dot.setAttribute("cx", rounded(x));
    dot.setAttribute("cy", rounded(y));
    dot.setAttribute("r", String(radius));
  }

  text(x: number, y: number, content: string, style: TextStyle): void {
    const text = this.add("text", style.paint ?? "ink", "fill");
    text.setAttribute("x", rounded(x));
    text.setAttribute("y", rounded(y));
    text.setAttribute("font-size", String(style.size));
    text.setAttribute("text-anchor", style.anchor ?? "start");
    if (style.bold) {
      text.setAttribute("font-weight", "600");
    }
    if (style.turn) {
      text.setAttribute("transform", `rotate(${style.turn} ${rounded(x)} ${rounded(y)})`);
    }
    text.textContent = content;
  }

  private add(name: string, paint: Paint, attribute: "fill" | "stroke"): SVGElement {
    const element = document.createElementNS(NS, name) as SVGElement;
    this.painted(element, attribute, paint);
    this.target.append(element);
    return element;
  }

  private painted(element: Element, attribute: "fill" | "stroke", paint: Paint): void {
    const [name, color] = this.color(paint);
    element.setAttribute(attribute, color);
    if (name) {
      element.setAttribute("class", `${attribute}-${name}`);
    }
  }

  private color(paint: Paint): [string, string] {
    const { theme } = this;
    if (typeof paint === "string") {
      return [paint, theme[paint]];
    }
    return "fixed" in paint ? ["", paint.fixed] : seriesColor(theme, paint.series);
  }
}

/** Class and light colour of a series. */
export function seriesColor(theme: Theme, key: ColorKey): [string, string] {
  if (key === "base") {
    return ["base", theme.base];
  }
  if ("reference" in key) {
    return ["muted", theme.muted];
  }
  const index = key.model % Math.max(theme.models.length, 1);
  return [`c${index}`, theme.models[index] ?? theme.ink];
}

/** Dash pattern of a series: solid until the colours begin again; references are never solid. */
export function dashesOf(theme: Theme, key: ColorKey): string | null {
  if (key === "base") {
    return null;
  }
  if ("reference" in key) {
    return ["7 3", "2 2.5", "9 3 2 3"][key.reference % 3] ?? null;
  }
  return [null, "7 3", "2 2.5"][Math.floor(key.model / Math.max(theme.models.length, 1)) % 3] ?? null;
}

function stroked(element: Element, stroke: Stroke): void {
  element.setAttribute("stroke-width", String(stroke.width));
  if (stroke.dashes) {
    element.setAttribute("stroke-dasharray", stroke.dashes);
  }
  if (stroke.opacity !== undefined && stroke.opacity < 1) {
    element.setAttribute("stroke-opacity", String(stroke.opacity));
  }
}

let measuring: CanvasRenderingContext2D | null | undefined;

/** Width of a text in the figures' font. */
export function textWidth(theme: Theme, text: string, size: number, bold = false): number {
  measuring ??= document.createElement("canvas").getContext("2d");
  if (!measuring) {
    return text.length * size * 0.6;
  }
  measuring.font = `${bold ? 600 : 400} ${size}px ${theme.family}`;
  return measuring.measureText(text).width;
}

/** `text`, or its beginning, `…` and its end, no wider than `limit`: names often differ at the end only. */
export function shortened(theme: Theme, text: string, limit: number, size: number, bold = false): string {
  if (textWidth(theme, text, size, bold) <= limit) {
    return text;
  }
  const chars = [...text];
  const keeping = (n: number) =>
    [...chars.slice(0, Math.ceil(n / 2)), "…", ...(n > 1 ? chars.slice(-Math.floor(n / 2)) : [])].join("");
  let [fits, fitsNot] = [0, chars.length];
  while (fitsNot - fits > 1) {
    const n = (fits + fitsNot) >> 1;
    if (textWidth(theme, keeping(n), size, bold) <= limit) {
      fits = n;
    } else {
      fitsNot = n;
    }
  }
  return keeping(fits);
}
