// Draws any figure into an element, with values under the pointer and the arrow keys. It knows nothing of the page.

import { AttentionView } from "./attention";
import { drawBars } from "./bars";
import { dashesOf, seriesColor } from "./canvas";
import { type DrawnGraph, drawGraph } from "./graph";
import { drawHeatmap } from "./heatmap";
import { drawHorizontalBars } from "./horizontal-bars";
import { attachHover, make } from "./hover";
import { drawLines } from "./lines";
import type { Drawn, Look, Mark } from "./marks";
import { exact } from "./numbers";
import { ofPrompt, type Slices, slicesOf } from "./slices";
import type { ColorKey, Figure, Theme } from "./types";
import { everything, type Origin, type Shown, type View, viewOf } from "./view";

export type { Figure, Kind, Theme } from "./types";
export { ofModels, type Shown } from "./view";
export { type Slices, slicesOf } from "./slices";

export interface Options {
  /** Colours for files, and sizes. On the page, classes follow its variables. */
  theme: Theme;
  /** Id of the prompt whose values are shown; null for the averages. */
  prompt?: string | null;
  /** Which models are shown. */
  shown?: Shown;
  /** The program's own drawing, which graphs need. */
  drawing?: SVGSVGElement | null;
  /** A cell was clicked or chosen with Enter; `origin` is its place in the whole figure. */
  onPick?(origin: Origin, mark: Mark, slices: Slices | undefined): void;
}

export interface Handle {
  /** Draws again with other options; what is not named stays. */
  update(change: Partial<Options>): Promise<void>;
  /** The figure as it is shown: of the chosen prompt and models, without hidden series. */
  shown(): Figure | undefined;
  /** The shown figure as a complete drawing with title and legend, at the width of a file. */
  file(): SVGSVGElement | undefined;
  destroy(): void;
}

/** Draws `figure` into `element`, which it fills. */
export async function drawFigure(element: HTMLElement, figure: Figure, options: Options): Promise<Handle> {
  if ("attention" in figure.kind) {
    return AttentionView.begin(element, figure, figure.kind.attention, options);
  }
  const drawing = new Drawing(element, figure, options);
  await drawing.draw();
  return drawing;
}

class Drawing implements Handle {
  private readonly hidden = new Set<string>();
  private readonly observer: ResizeObserver;
  private view: View | undefined;
  private detach: (() => void) | undefined;
  private width = 0;
  private turn = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly figure: Figure,
    private options: Options,
  ) {
    this.observer = new ResizeObserver(() => {
      if (Math.abs(this.roomy() - this.width) > 1) {
        void this.draw();
      }
    });
    this.observer.observe(element);
  }

  async update(change: Partial<Options>): Promise<void> {
    this.options = { ...this.options, ...change };
    await this.draw();
  }

  shown(): Figure | undefined {
    return this.view?.figure;
  }

  file(): SVGSVGElement | undefined {
    const view = this.view;
    return view && this.drawn(view, { width: this.options.theme.width, whole: true }).svg;
  }

  destroy(): void {
    this.observer.disconnect();
    this.detach?.();
    this.element.replaceChildren();
  }

  /** Width that the drawing may take. */
  private roomy(): number {
    return Math.max(280, Math.min(this.options.theme.width, this.element.clientWidth || this.options.theme.width));
  }

  async draw(): Promise<void> {
    this.turn += 1;
    const turn = this.turn;
    const slices = await slicesOf(this.figure);
    if (turn !== this.turn) {
      return;
    }
    this.width = this.roomy();
    const { prompt, shown = everything } = this.options;
    const sliced = prompt && slices ? ofPrompt(this.figure, slices, prompt) : undefined;
    const whole = viewOf(sliced ?? this.figure, shown, sliced !== undefined);
    const visible: Shown = (name) => shown(name) && !this.hidden.has(name);
    this.view = this.hidden.size > 0 ? viewOf(sliced ?? this.figure, visible, sliced !== undefined) : whole;
    this.detach?.();
    this.detach = undefined;
    const legend = whole ? this.legend(whole.figure) : undefined;
    if (!this.view) {
      const why = whole ? "All series are hidden." : "Nothing of this figure belongs to the chosen models and prompt.";
      this.element.replaceChildren(...(legend ? [legend] : []), make("p", "nothing", why));
      return;
    }
    const view = this.view;
    const drawn = this.drawn(view, { width: this.width, whole: false });
    const stage = make("div", "stage");
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-roledescription", "chart");
    stage.setAttribute("aria-label", `${this.figure.title}. Arrow keys go from value to value.`);
    drawn.svg.setAttribute("aria-hidden", "true");
    stage.style.width = `${drawn.svg.getAttribute("width")}px`;
    stage.append(drawn.svg);
    const scroller = make("div", "scroll");
    scroller.append(stage);
    const note = prompt && !sliced ? [make("p", "nothing", this.withoutSlices(slices))] : [];
    this.element.replaceChildren(...note, ...(legend ? [legend] : []), scroller);
    this.attach(stage, drawn, view, slices, sliced !== undefined);
  }

  private withoutSlices(slices: Slices | undefined): string {
    return slices
      ? "The chosen prompt has no part in this figure; it shows the averages."
      : "This figure has no values of single prompts; it shows all of them together.";
  }

  private attach(stage: HTMLElement, drawn: Drawn, view: View, slices: Slices | undefined, single: boolean): void {
    const graph = "light" in drawn ? (drawn as DrawnGraph) : undefined;
    let pinned: Mark | undefined;
    const origin = (mark: Mark) => view.origin(mark.panel, mark.row, mark.col);
    this.detach = attachHover(stage, drawn, {
      more: (mark) => {
        if (!slices) {
          return [];
        }
        const { panel, row, col } = origin(mark);
        const n = slices.count(panel, row, col);
        return single ? ["one prompt"] : [`n = ${n} prompt${n === 1 ? "" : "s"}`];
      },
      onPoint: (mark) => graph?.light(mark ?? pinned),
      onPick: (mark) => {
        pinned = pinned === mark ? undefined : mark;
        graph?.light(pinned);
        this.options.onPick?.(origin(mark), mark, slices);
      },
    });
  }

  private drawn(view: View, look: Look): Drawn {
    const { theme, drawing } = this.options;
    const { kind, title } = view.figure;
    if ("lines" in kind) {
      return drawLines(theme, title, kind.lines, look);
    }
    if ("heatmap" in kind) {
      return drawHeatmap(theme, title, kind.heatmap, look);
    }
    if ("bars" in kind) {
      return drawBars(theme, title, kind.bars, look);
    }
    if ("horizontal_bars" in kind) {
      return drawHorizontalBars(theme, title, kind.horizontal_bars, look);
    }
    if (!drawing || !("graph" in kind)) {
      throw new Error(`figure ${this.figure.name}: a graph needs the program's drawing`);
    }
    const panels = kind.graph.panels.map((_, i) => view.origin(i, 0, 0).panel);
    return drawGraph(kind.graph, drawing, panels);
  }

  /** Buttons that hide and show series. */
  private legend(figure: Figure): HTMLElement | undefined {
    const { kind } = figure;
    if ("heatmap" in kind || "graph" in kind || "attention" in kind) {
      return undefined;
    }
    const panels: { series: { name: string; color: ColorKey }[] }[] =
      "lines" in kind ? kind.lines.panels : "bars" in kind ? kind.bars.panels : kind.horizontal_bars.panels;
    const entries = new Map(panels.flatMap((panel) => panel.series.map((s) => [s.name, s.color] as const)));
    if (entries.size < 2) {
      return undefined;
    }
    const legend = make("div", "legend");
    legend.setAttribute("role", "group");
    legend.setAttribute("aria-label", "Series shown");
    for (const [name, color] of entries) {
      const button = make("button", `swatch swatch-${seriesColor(this.options.theme, color)[0]}`, name);
      button.type = "button";
      button.classList.toggle("dashed", dashesOf(this.options.theme, color) !== null);
      button.setAttribute("aria-pressed", String(!this.hidden.has(name)));
      button.addEventListener("click", () => void this.toggle(name));
      legend.append(button);
    }
    return legend;
  }

  private async toggle(name: string): Promise<void> {
    if (!this.hidden.delete(name)) {
      this.hidden.add(name);
    }
    await this.draw();
    const buttons = this.element.querySelectorAll<HTMLButtonElement>(".legend button");
    [...buttons].find((button) => button.textContent === name)?.focus();
  }
}

/** A value for lists, as tips show it. */
export { exact };
