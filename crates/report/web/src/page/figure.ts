// A figure of the page: the still drawing gives way to the interactive one when it comes into view.

import { drawFigure, type Figure, type Handle, ofModels, type Theme } from "../figures";
import { fontFaces, pngFile, save, svgFile } from "../figures/files";
import { make } from "../figures/hover";
import { csvOf } from "../figures/numbers-of";
import { showCell } from "./cell";
import type { State } from "./state";
import { type TableFile, whereOf } from "./where";

export class FigureView {
  private handle: Handle | undefined;
  private readonly where = make("details", "where");
  private stale = false;
  private visible = false;

  constructor(
    readonly element: HTMLElement,
    private readonly theme: Theme,
    private readonly state: State,
    private readonly tables: TableFile[],
  ) {
    state.follow(() => {
      this.stale = true;
      void this.refresh();
    });
  }

  /** It has come into view, or has left it. */
  async seen(visible: boolean): Promise<void> {
    this.visible = visible;
    if (visible && !this.handle) {
      await this.begin();
    }
    await this.refresh();
  }

  private choice(): { prompt: string | null; shown: (name: string) => boolean } {
    const { prompt, models } = this.state.choice;
    return { prompt, shown: ofModels(this.state.allModels, models) };
  }

  /** Follows the reader's choice, but not while nobody sees it. */
  private async refresh(): Promise<void> {
    if (this.stale && this.visible && this.handle) {
      this.stale = false;
      this.showWhere();
      await this.handle.update(this.choice());
    }
  }

  /** Which rows of the run's tables the chosen prompt and models are. */
  private showWhere(): void {
    const lines = whereOf(this.tables, this.state.choice, this.state.allModels);
    const list = make("ul", "small");
    list.append(...lines);
    this.where.replaceChildren(make("summary", "", "Table rows of what is chosen"), list);
    this.where.hidden = lines.length === 0;
  }

  private async begin(): Promise<void> {
    const data = this.element.querySelector('script[type="application/json"]')?.textContent;
    const still = this.element.querySelector<HTMLElement>(".still");
    if (!data || !still) {
      return;
    }
    const figure = JSON.parse(data) as Figure;
    const live = make("div", "live");
    const drawing = make("div", "drawing");
    // The drawing of a graph is the program's, with its title inside.
    const heading = make("h3", "graph" in figure.kind ? "spoken" : "figure-title", figure.title);
    live.append(heading, drawing, this.tools(figure), this.where);
    this.showWhere();
    this.stale = false;
    still.after(live);
    try {
      this.handle = await drawFigure(drawing, figure, {
        theme: this.theme,
        ...this.choice(),
        drawing: still.querySelector("svg"),
        onPick: (origin, mark, slices) => {
          if (slices) {
            showCell(this.state, mark, origin, slices);
          }
        },
      });
    } catch (error) {
      // The still drawing stays.
      live.remove();
      throw error;
    }
    this.element.classList.add("is-live");
  }

  /** Downloads of what is shown. */
  private tools(figure: Figure): HTMLElement {
    const tools = make("div", "tools");
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", `Files of ${figure.title}`);
    const tool = (name: string, act: () => Promise<void> | void) => {
      const button = make("button", "plain", name);
      button.type = "button";
      button.setAttribute("aria-label", `Download ${figure.title} as ${name}`);
      button.addEventListener("click", () => void act());
      tools.append(button);
    };
    const prompt = () => this.state.choice.prompt?.replaceAll(/[^A-Za-z0-9_-]+/g, "_");
    const name = (ending: string) => [figure.name, prompt()].filter(Boolean).join("-") + ending;
    const drawing = () => {
      const svg = this.handle?.file();
      return svg && { svg, text: svgFile(svg, figure.title, fontFaces()) };
    };
    tools.append(make("span", "", "Download"));
    tool("SVG", () => {
      const file = drawing();
      if (file) {
        save(name(".svg"), new Blob([file.text], { type: "image/svg+xml" }));
      }
    });
    tool("PNG", async () => {
      const file = drawing();
      if (file) {
        const { width, height } = file.svg.viewBox.baseVal;
        save(name(".png"), await pngFile(file.text, width, height));
      }
    });
    tool("CSV", () => {
      const shown = this.handle?.shown();
      if (shown) {
        save(name(".csv"), new Blob([csvOf(shown)], { type: "text/csv" }));
      }
    });
    return tools;
  }
}
