// Pointing at a drawing, with a pointer or with the keys: a frame around what is pointed at, a tip with its value, and the
// same in words for screen readers. Neither frame nor tip is part of the SVG, so the drawing is not painted again.

import type { Drawn, Mark } from "./marks";

export interface HoverOptions {
  /** More lines of the tip. */
  more?(mark: Mark): string[];
  /** A mark is pointed at, or none. */
  onPoint?(mark: Mark | undefined): void;
  /** A mark is clicked, or chosen with Enter. */
  onPick?(mark: Mark): void;
}

/** An element with a class and a text. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, name = "", text = ""): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  if (name) {
    element.className = name;
  }
  if (text) {
    element.textContent = text;
  }
  return element;
}

const STEPS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/** Makes `stage`, which holds the drawing, answer to pointer and keys. Returns how to stop it. */
export function attachHover(stage: HTMLElement, drawn: Drawn, options: HoverOptions): () => void {
  const frame = make("div", "pointed");
  const tip = make("div", "tip");
  const spoken = make("div", "spoken");
  spoken.setAttribute("aria-live", "polite");
  frame.hidden = true;
  tip.hidden = true;
  stage.append(frame, tip, spoken);
  let current: Mark | undefined;
  let waiting = 0;

  const scale = () => stage.clientWidth / (drawn.svg.viewBox.baseVal.width || 1);
  const point = (mark: Mark | undefined) => {
    const same = mark?.panel === current?.panel && mark?.row === current?.row && mark?.col === current?.col;
    if (same && !!mark === !!current && frame.hidden === !mark) {
      return;
    }
    current = mark;
    frame.hidden = tip.hidden = !mark;
    options.onPoint?.(mark);
    if (mark) {
      place(frame, mark, scale());
      fill(tip, mark, options.more?.(mark) ?? []);
      placeTip(tip, drawn.svg, mark, scale());
    }
  };
  const pointAt = (event: PointerEvent | MouseEvent) => {
    const rect = drawn.svg.getBoundingClientRect();
    return drawn.marks.at((event.clientX - rect.left) / scale(), (event.clientY - rect.top) / scale());
  };
  const onMove = (event: PointerEvent) => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => point(pointAt(event)));
  };
  const onLeave = () => {
    cancelAnimationFrame(waiting);
    point(undefined);
  };
  // Who comes back with the keys goes on from where they were.
  const onBlur = () => {
    frame.hidden = tip.hidden = true;
  };
  const onClick = (event: MouseEvent) => {
    const mark = pointAt(event);
    if (mark) {
      point(mark);
      options.onPick?.(mark);
    }
  };
  const onKey = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const step = STEPS[event.key];
    if (step) {
      event.preventDefault();
      const next = drawn.marks.step(current, ...step);
      point(next);
      spoken.textContent = next ? [`${next.name}: ${next.value}`, ...(options.more?.(next) ?? [])].join(". ") : "";
    } else if ((event.key === "Enter" || event.key === " ") && current) {
      event.preventDefault();
      options.onPick?.(current);
    } else if (event.key === "Escape") {
      point(undefined);
    }
  };
  stage.addEventListener("pointermove", onMove);
  stage.addEventListener("pointerleave", onLeave);
  stage.addEventListener("click", onClick);
  stage.addEventListener("keydown", onKey);
  stage.addEventListener("blur", onBlur);
  return () => {
    cancelAnimationFrame(waiting);
    stage.removeEventListener("pointermove", onMove);
    stage.removeEventListener("pointerleave", onLeave);
    stage.removeEventListener("click", onClick);
    stage.removeEventListener("keydown", onKey);
    stage.removeEventListener("blur", onBlur);
    frame.remove();
    tip.remove();
    spoken.remove();
  };
}

function place(frame: HTMLElement, mark: Mark, scale: number): void {
  const { x, y, width, height } = mark.box;
  frame.style.transform = `translate(${x * scale - 2}px, ${y * scale - 2}px)`;
  frame.style.width = `${width * scale + 3}px`;
  frame.style.height = `${height * scale + 3}px`;
}

function fill(tip: HTMLElement, mark: Mark, more: string[]): void {
  tip.replaceChildren(make("div", "tip-name", mark.name), make("div", "tip-value", mark.value));
  for (const line of more) {
    tip.append(make("div", "tip-more", line));
  }
  if (mark.beside && mark.beside.length > 0) {
    const list = make("dl", "tip-beside");
    for (const other of mark.beside.slice(0, 9)) {
      const name = make("dt", other.swatch ? `swatch swatch-${other.swatch}` : "", other.name);
      list.append(name, make("dd", "", other.value));
    }
    tip.append(list);
  }
}

/** Above or below what it speaks of, inside the window. */
function placeTip(tip: HTMLElement, svg: SVGSVGElement, mark: Mark, scale: number): void {
  const { x, y, width, height } = mark.box;
  const drawing = svg.getBoundingClientRect();
  const [tipWidth, tipHeight] = [tip.offsetWidth, tip.offsetHeight];
  const center = drawing.left + (x + width / 2) * scale;
  const left = Math.min(Math.max(center - tipWidth / 2, 4), Math.max(4, document.documentElement.clientWidth - tipWidth - 4));
  const above = drawing.top + y * scale - tipHeight - 8;
  const top = above >= 4 ? above : drawing.top + (y + height) * scale + 8;
  tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
}
