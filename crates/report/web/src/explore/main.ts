// The explorer's page: a state is asked of the server whenever it changes, and its answer is drawn.

import { save } from "../figures/files";
import { make } from "../figures/hover";
import * as api from "./api";
import type { Part } from "./api";
import { componentMenu, editsPanel } from "./edits";
import { button } from "./parts";
import { questionPanel } from "./question";
import { Results } from "./results";
import { linked, Store } from "./store";
import { SweepPanel } from "./sweep";
import type { About, Answer, State } from "./types";

/** Analyses in the order in which they answer: the quickest first. */
const USUAL: Part[] = ["decide", "lens", "dla"].map((name) => ({ analyses: [name] }));
const ATTENTION: Part = { analyses: ["attention"] };

class Page {
  private readonly status = make("p", "status");
  private readonly results: Results;
  private readonly attention = make("input");
  private readonly sweeps: SweepPanel;
  private turn = 0;
  private abort = new AbortController();
  /** The last answers without edits, by what was asked. */
  private readonly plain = new Map<string, Answer>();

  constructor(
    private readonly about: About,
    private readonly store: Store,
  ) {
    this.sweeps = new SweepPanel(about, () => void this.refresh());
    const menu = (unit: string, model: string, value: string) =>
      componentMenu(store, about, unit, model, value, (source) => this.sweeps.ask({ source, target: model }));
    this.results = new Results(about.theme, menu);
    this.status.setAttribute("role", "status");
    store.follow(() => void this.refresh());
  }

  begin(): void {
    const main = make("main");
    const left = make("div", "side");
    this.attention.type = "checkbox";
    this.attention.addEventListener("change", () => void this.refresh());
    const label = make("label", "panel check");
    label.append(this.attention, " also read where heads attend (slower)");
    left.append(questionPanel(this.store, this.about), editsPanel(this.store, this.about), this.sweeps.element, label);
    const right = make("div", "answers");
    right.append(this.status, this.results.element);
    main.append(left, right);
    document.body.append(this.header(), main);
    document.addEventListener("keydown", (event) => this.key(event));
    void this.refresh();
  }

  private header(): HTMLElement {
    const header = make("header", "top");
    const { models, layers, heads, family } = this.about;
    const names = models.map(({ name }) => name).join(", ");
    const title = make("div");
    title.append(make("h1", "", "lorascope explore"), make("p", "small", `${names}; ${family}, ${layers} layers of ${heads} heads`));
    const tools = make("div", "actions");
    tools.setAttribute("role", "group");
    tools.setAttribute("aria-label", "State");
    const undo = button("Undo", () => this.store.undo());
    const redo = button("Redo", () => this.store.redo());
    const enable = () => {
      undo.disabled = !this.store.canUndo;
      redo.disabled = !this.store.canRedo;
    };
    this.store.follow(enable);
    enable();
    tools.append(
      undo,
      redo,
      button("Copy link", () => void this.copy()),
      button("Export as study", () => void this.export()),
    );
    header.append(title, tools);
    return header;
  }

  private key(event: KeyboardEvent): void {
    const typing = event.target instanceof HTMLTextAreaElement || event.target instanceof HTMLInputElement;
    if (typing || !(event.ctrlKey || event.metaKey)) {
      return;
    }
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) {
      event.preventDefault();
      this.store.undo();
    } else if (key === "y" || (key === "z" && event.shiftKey)) {
      event.preventDefault();
      this.store.redo();
    }
  }

  private say(text: string, name: "" | "busy" | "failed" = ""): void {
    this.status.textContent = text;
    this.status.className = `status ${name}`;
  }

  /** Asks what the state asks, part by part, each without edits first; what is there is shown while the rest is computed. */
  private async refresh(): Promise<void> {
    this.turn += 1;
    const turn = this.turn;
    this.abort.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    const { state } = this.store;
    const sweep = this.sweeps.asked;
    const parts = [...USUAL, ...(this.attention.checked ? [ATTENTION] : []), ...(sweep ? [{ sweep }] : [])];
    this.say("Asking the models …", "busy");
    this.results.begin(parts.map(partName));
    let seconds = 0;
    try {
      for (const part of parts) {
        const plain = await this.withoutEdits(state, part, signal);
        const answer = state.edits.length > 0 ? await api.answer(state, part, signal) : plain;
        if (turn !== this.turn) {
          return;
        }
        seconds += answer.seconds;
        await this.results.show(partName(part), answer, answer === plain ? undefined : plain);
        if (turn !== this.turn) {
          return;
        }
        if ("sweep" in part && this.sweeps.isNew) {
          this.sweeps.isNew = false;
          this.results.bring(partName(part));
        }
      }
      this.say(`Answered in ${seconds.toFixed(2)} s.`);
      document.documentElement.dataset["answered"] = String(turn);
    } catch (error) {
      if (turn === this.turn && !signal.aborted) {
        this.say(error instanceof Error ? error.message : String(error), "failed");
      }
    }
  }

  private async withoutEdits(state: State, part: Part, signal: AbortSignal): Promise<Answer> {
    const bare = { ...state, edits: [] };
    const key = JSON.stringify([bare, part]);
    const known = this.plain.get(key);
    if (known) {
      return known;
    }
    const answer = await api.answer(bare, part, signal);
    if (this.plain.size > 60) {
      this.plain.clear();
    }
    this.plain.set(key, answer);
    return answer;
  }

  private async copy(): Promise<void> {
    try {
      await navigator.clipboard.writeText(location.href);
      this.say("The link is copied. It holds this server's token and works while the server runs.");
    } catch {
      this.say("The browser does not let the link be copied; the address bar has it.", "failed");
    }
  }

  private async export(): Promise<void> {
    try {
      const files = await api.exported(this.store.state);
      save(files.study_name, new Blob([files.study], { type: "application/toml" }));
      save(files.prompts_name, new Blob([files.prompts], { type: "application/json" }));
      this.say(`Saved ${files.study_name} and ${files.prompts_name}; put them into one folder and run lorascope study ${files.study_name}.`);
    } catch (error) {
      this.say(error instanceof Error ? error.message : String(error), "failed");
    }
  }
}

const partName = (part: Part) => ("sweep" in part ? "patch" : part.analyses[0]);

/** What the page begins with: the link's state, or the first prompt. */
function first(about: About): State {
  const models = about.models.map(({ name }) => name);
  const prompt = about.prompts[0];
  return linked() ?? { models, prompt: prompt ? { id: prompt.id } : { text: "" }, edits: about.edits };
}

async function begin(): Promise<void> {
  try {
    const about = await api.about();
    new Page(about, new Store(first(about))).begin();
  } catch (error) {
    const failed = make("p", "status failed", error instanceof Error ? error.message : String(error));
    document.body.append(failed);
  }
}

void begin();
