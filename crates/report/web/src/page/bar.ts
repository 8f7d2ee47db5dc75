// The bar that stays in sight: which prompt, which models, light or dark.

import { make } from "../figures/hover";
import type { Prompt, State } from "./state";

const ALL = "All prompts (averages)";

export function buildBar(state: State, nColors: number): HTMLElement {
  const bar = make("div", "bar");
  bar.setAttribute("role", "region");
  bar.setAttribute("aria-label", "What is shown");
  const row = make("div", "bar-row");
  if (state.prompts.length > 0) {
    row.append(promptPicker(state));
  }
  if (state.allModels.length > 1) {
    row.append(modelPicker(state, nColors));
  }
  bar.append(row);
  if (state.prompts.length > 0) {
    bar.append(promptText(state));
  }
  return bar;
}

function promptPicker(state: State): HTMLElement {
  const select = make("select");
  select.id = "prompt-picker";
  const option = (value: string, text: string) => {
    const element = make("option", "", text);
    element.value = value;
    return element;
  };
  select.append(option("", ALL));
  const groups = new Map<string, Prompt[]>();
  for (const prompt of state.prompts) {
    groups.set(prompt.scenario, [...(groups.get(prompt.scenario) ?? []), prompt]);
  }
  for (const [scenario, prompts] of groups) {
    const options = prompts.map((prompt) => option(`p${state.prompts.indexOf(prompt)}`, prompt.id));
    if (scenario) {
      const group = make("optgroup");
      group.label = scenario;
      group.append(...options);
      select.append(group);
    } else {
      select.append(...options);
    }
  }
  select.addEventListener("change", () => {
    const prompt = state.prompts[Number(select.value.slice(1))];
    state.choosePrompt(select.value ? (prompt?.id ?? null) : null);
  });
  const stepper = (text: string, name: string, by: number) => {
    const button = make("button", "step", text);
    button.type = "button";
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => {
      const n = select.options.length;
      select.selectedIndex = (select.selectedIndex + by + n) % n;
      select.dispatchEvent(new Event("change"));
    });
    return button;
  };
  state.follow(({ prompt }) => {
    const at = state.prompts.findIndex((p) => p.id === prompt);
    select.value = at < 0 ? "" : `p${at}`;
  });
  const label = make("label", "", "Prompt");
  label.htmlFor = select.id;
  const box = make("div", "picker");
  box.append(label, stepper("‹", "Prompt before", -1), select, stepper("›", "Next prompt", 1));
  return box;
}

function modelPicker(state: State, nColors: number): HTMLElement {
  const box = make("div", "picker models");
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Models shown");
  const buttons = state.allModels.map((name, i) => {
    const button = make("button", `swatch swatch-${i === 0 ? "base" : `c${(i - 1) % nColors}`}`, name);
    button.type = "button";
    button.addEventListener("click", () => state.toggleModel(name));
    return button;
  });
  const all = make("button", "plain", "all");
  all.type = "button";
  all.setAttribute("aria-label", "Show all models");
  all.addEventListener("click", () => state.allModelsAgain());
  const show = () => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(state.choice.models.has(state.allModels[i] ?? "")));
    });
    all.hidden = state.choice.models.size === state.allModels.length;
  };
  state.follow(show);
  show();
  box.append(make("span", "label", "Models"), ...buttons, all);
  return box;
}

const THEMES = ["auto", "light", "dark"] as const;
const KEPT = "lorascope-theme";

export function themePicker(): HTMLElement {
  const select = make("select");
  select.id = "theme-picker";
  for (const theme of THEMES) {
    select.append(make("option", "", theme));
  }
  const apply = (theme: string) => {
    if (theme === "auto") {
      delete document.documentElement.dataset.theme;
    } else {
      document.documentElement.dataset.theme = theme;
    }
  };
  // A browser may refuse to keep anything for a page from disk; then the choice lasts as long as the page.
  const storage = (use: (store: Storage) => string | null | void) => {
    try {
      return use(localStorage) ?? null;
    } catch {
      return null;
    }
  };
  const kept = storage((store) => store.getItem(KEPT));
  select.value = THEMES.find((theme) => theme === kept) ?? "auto";
  apply(select.value);
  select.addEventListener("change", () => {
    apply(select.value);
    storage((store) => store.setItem(KEPT, select.value));
  });
  const label = make("label", "", "Colours");
  label.htmlFor = select.id;
  const box = make("div", "picker theme");
  box.append(label, select);
  return box;
}

/** The chosen prompt in words, with its two answers. */
function promptText(state: State): HTMLElement {
  const details = make("details", "prompt-text");
  const summary = make("summary", "", "Text of the prompt");
  const text = make("pre");
  text.tabIndex = 0;
  const answers = make("p", "small");
  details.append(summary, text, answers);
  details.hidden = true;
  state.follow(({ prompt }) => {
    const chosen = state.prompts.find((p) => p.id === prompt);
    details.hidden = !chosen;
    if (chosen) {
      summary.textContent = `Text of ${chosen.id}${chosen.scenario ? ` (${chosen.scenario})` : ""}`;
      text.textContent = chosen.text;
      text.setAttribute("aria-label", `Text of ${chosen.id}`);
      answers.textContent = `Answer A: ${JSON.stringify(chosen.answer_a)}. Answer B: ${JSON.stringify(chosen.answer_b)}.`;
    }
  });
  return details;
}
