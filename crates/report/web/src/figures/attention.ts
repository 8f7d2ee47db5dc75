// Attention looked through: a prompt, a model or the difference of two, a layer, a head; tokens on the colours of their
// weights, and what goes to each named span.

import { attachHover, make } from "./hover";
import type { Handle, Options } from "./index";
import { exact } from "./numbers";
import { inflated } from "./slices";
import { drawTokens, type TokenRow } from "./tokens";
import type { AttentionRows, Figure } from "./types";
import { everything } from "./view";

/** Unpacked weights. */
class Weights {
  private readonly starts: number[] = [];

  constructor(
    private readonly rows: AttentionRows,
    private readonly bytes: Uint8Array,
  ) {
    const heads = rows.models.length * rows.n_layers * rows.n_heads;
    let at = 0;
    for (const prompt of rows.prompts) {
      this.starts.push(at);
      at += heads * prompt.tokens.length;
    }
    if (at !== bytes.length) {
      throw new Error(`${bytes.length} weights for ${at} heads and tokens`);
    }
  }

  /** Weights of one head, or of the mean over the heads of a layer or of all. */
  of(prompt: number, model: number, layer: number | null, head: number | null): number[] {
    const { n_layers, n_heads, prompts } = this.rows;
    const n = prompts[prompt]?.tokens.length ?? 0;
    const sums = new Array<number>(n).fill(0);
    const range = (chosen: number | null, all: number) => (chosen === null ? [...Array(all).keys()] : [chosen]);
    const [layers, heads] = [range(layer, n_layers), range(head, n_heads)];
    for (const l of layers) {
      for (const h of heads) {
        const start = (this.starts[prompt] ?? 0) + ((model * n_layers + l) * n_heads + h) * n;
        for (let t = 0; t < n; t++) {
          sums[t] = (sums[t] ?? 0) + ((this.bytes[start + t] ?? 0) / 255) ** 2;
        }
      }
    }
    return sums.map((sum) => sum / (layers.length * heads.length));
  }
}

interface Choice {
  prompt: number;
  model: number;
  minus: number | null;
  layer: number | null;
  head: number | null;
}

export class AttentionView implements Handle {
  private choice: Choice = { prompt: 0, model: 0, minus: null, layer: null, head: null };
  private readonly controls = make("div", "controls");
  private readonly place = make("div");
  private readonly spans = make("div");
  private readonly observer: ResizeObserver;
  private detach: (() => void) | undefined;
  private width = 0;

  private constructor(
    private readonly element: HTMLElement,
    private readonly figure: Figure,
    private readonly rows: AttentionRows,
    private readonly weights: Weights,
    private options: Options,
  ) {
    const tuned = rows.models.length > 1;
    this.choice = { ...this.choice, model: tuned ? 1 : 0, minus: tuned ? 0 : null };
    element.replaceChildren(this.controls, this.place, this.spans);
    this.observer = new ResizeObserver(() => {
      if (Math.abs(this.roomy() - this.width) > 1) {
        this.draw();
      }
    });
    this.observer.observe(element);
  }

  static async begin(element: HTMLElement, figure: Figure, rows: AttentionRows, options: Options): Promise<AttentionView> {
    const weights = new Weights(rows, new Uint8Array(await inflated(rows.weights)));
    const view = new AttentionView(element, figure, rows, weights, options);
    view.follow();
    return view;
  }

  async update(change: Partial<Options>): Promise<void> {
    this.options = { ...this.options, ...change };
    this.follow();
  }

  /** Takes over the page's prompt, and a model that is shown. */
  private follow(): void {
    const { prompt, shown = everything } = this.options;
    const known = this.rows.prompts.findIndex((p) => p.id === prompt);
    const isShown = (model: number | null) => model === null || shown(this.rows.models[model] ?? "");
    const first = this.rows.models.findIndex((_, i) => isShown(i));
    this.choice = {
      ...this.choice,
      prompt: known >= 0 ? known : this.choice.prompt,
      model: isShown(this.choice.model) ? this.choice.model : Math.max(first, 0),
    };
    const missing = prompt && known < 0 ? ["The chosen prompt is not among those whose weights are kept."] : [];
    this.fillControls(missing);
    this.draw();
  }

  private fillControls(notes: string[]): void {
    const { rows, choice } = this;
    const { shown = everything } = this.options;
    const select = (label: string, value: number | null, all: string | null, names: string[], act: (v: number | null) => void) => {
      const element = make("select");
      if (all !== null) {
        element.append(new Option(all, ""));
      }
      names.forEach((name, i) => element.append(new Option(name, String(i))));
      element.value = value === null ? "" : String(value);
      element.setAttribute("aria-label", label);
      element.addEventListener("change", () => {
        act(element.value === "" ? null : Number(element.value));
        this.draw();
      });
      const box = make("label", "", label);
      box.append(element);
      return box;
    };
    const numbers = (n: number) => [...Array(n).keys()].map(String);
    const models = rows.models.map((name) => (shown(name) ? name : `${name} (left out)`));
    const set = (change: Partial<Choice>) => {
      this.choice = { ...this.choice, ...change };
    };
    this.controls.replaceChildren(
      ...notes.map((note) => make("p", "nothing", note)),
      select("Prompt", choice.prompt, null, rows.prompts.map((p) => p.id), (v) => set({ prompt: v ?? 0 })),
      select("Model", choice.model, null, models, (v) => set({ model: v ?? 0 })),
      select("minus", choice.minus, "nothing", models, (v) => set({ minus: v })),
      select("Layer", choice.layer, "mean of all", numbers(rows.n_layers), (v) => set({ layer: v })),
      select("Head", choice.head, "mean of all", numbers(rows.n_heads), (v) => set({ head: v })),
    );
  }

  private row(): TokenRow {
    const { prompt, model, minus, layer, head } = this.choice;
    const own = this.weights.of(prompt, model, layer, head);
    const less = minus === null ? undefined : this.weights.of(prompt, minus, layer, head);
    const data = this.rows.prompts[prompt];
    const models = [this.rows.models[model], ...(minus === null ? [] : [this.rows.models[minus]])].join(" − ");
    const where = [layer === null ? "all layers" : `layer ${layer}`, head === null ? "mean of heads" : `head ${head}`];
    return {
      tokens: data?.tokens ?? [],
      spans: (data?.span_of ?? []).map((s) => data?.spans[s] ?? ""),
      values: less ? own.map((v, i) => v - (less[i] ?? 0)) : own,
      signed: less !== undefined,
      about: [data?.id, models, ...where].join(", "),
    };
  }

  private roomy(): number {
    return Math.max(280, Math.min(this.options.theme.width, this.element.clientWidth || this.options.theme.width));
  }

  private draw(): void {
    this.width = this.roomy();
    const row = this.row();
    const drawn = drawTokens(this.options.theme, this.figure.title, row, { width: this.width, whole: false });
    const stage = make("div", "stage");
    stage.tabIndex = 0;
    stage.setAttribute("role", "application");
    stage.setAttribute("aria-roledescription", "tokens");
    stage.setAttribute("aria-label", `${row.about}. Arrow keys go from token to token.`);
    stage.style.width = `${this.width}px`;
    drawn.svg.setAttribute("aria-hidden", "true");
    stage.append(drawn.svg);
    this.detach?.();
    this.place.replaceChildren(stage);
    this.detach = attachHover(stage, drawn, {});
    this.spans.replaceChildren(this.spanTable(row));
  }

  /** What goes to each span, the largest first. */
  private spanTable(row: TokenRow): HTMLElement {
    const sums = new Map<string, number>();
    row.values.forEach((v, i) => {
      const span = row.spans[i] ?? "";
      sums.set(span, (sums.get(span) ?? 0) + v);
    });
    const list = make("dl", "span-sums");
    list.setAttribute("aria-label", "Sum over the tokens of each span");
    const sorted = [...sums].sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    for (const [span, sum] of sorted) {
      const entry = make("div");
      entry.append(make("dt", "", span.replaceAll("_", " ")), make("dd", "", exact(Math.abs(sum) < 1e-4 ? 0 : sum)));
      list.append(entry);
    }
    return list;
  }

  /** The shown tokens as a heat map of one row, for their numbers. */
  shown(): Figure {
    const row = this.row();
    const cols = row.tokens.map((token, i) => `${i} ${token}`);
    const panel = { title: row.about, rows: ["weight"], cols, values: [row.values], intervals: [] };
    const scale = { diverging: { center: 0, reach: null } };
    const kind = { heatmap: { row_label: "", col_label: "token", panels: [panel], scale, unit: "weight", annotate: false } };
    return { ...this.figure, kind };
  }

  file(): SVGSVGElement {
    const look = { width: this.options.theme.width, whole: true };
    return drawTokens(this.options.theme, this.figure.title, this.row(), look).svg;
  }

  destroy(): void {
    this.observer.disconnect();
    this.detach?.();
    this.element.replaceChildren();
  }
}
