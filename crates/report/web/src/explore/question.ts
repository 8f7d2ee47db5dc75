// The prompt and its answers: chosen among the run's, or typed.

import { make } from "../figures/hover";
import { field, select } from "./parts";
import type { Store } from "./store";
import type { About, Asked, KnownPrompt, State } from "./types";

/** After the last key, before what was typed is asked. */
const PAUSE = 600;

export function questionPanel(store: Store, about: About): HTMLElement {
  const panel = make("section", "panel ask");
  panel.setAttribute("aria-labelledby", "question-heading");
  const heading = make("h2", "", "Prompt");
  heading.id = "question-heading";
  const named = about.prompts.map((p): [string, string] => [p.id, p.scenario ? `${p.id} (${p.scenario})` : p.id]);
  const which = select([["", "typed below"], ...named], "");
  const text = make("textarea");
  text.rows = 9;
  text.spellcheck = false;
  const [a, b] = [make("input"), make("input")];
  a.type = b.type = "text";
  a.size = b.size = 10;
  const more = make("p", "small");

  const known = (id: string) => about.prompts.find((p) => p.id === id);
  let from: KnownPrompt | undefined;
  const show = () => {
    const { prompt, answers } = store.state;
    const chosen = "id" in prompt ? known(prompt.id) : undefined;
    from = chosen ?? ("messages" in prompt ? from : undefined);
    which.value = chosen?.id ?? "";
    const typing = document.activeElement;
    const shown = textOf(prompt, chosen);
    if (text !== typing || text.value !== shown) {
      text.value = shown;
    }
    const [first, second] = answers ?? chosen?.answers ?? about.answers ?? ["", ""];
    if (a !== typing) {
      a.value = first;
    }
    if (b !== typing) {
      b.value = second;
    }
    const turns = turnsOf(prompt, chosen);
    more.textContent = turns > 1 ? `The last of ${turns} messages; those before it stay as they are.` : "";
    more.hidden = turns < 2;
  };
  const read = () => {
    const now = store.state;
    const chosen = "id" in now.prompt ? known(now.prompt.id) : from;
    const prompt = asked(text.value, now.prompt, chosen);
    const own: [string, string] = [a.value, b.value];
    const usual = "id" in prompt ? (known(prompt.id)?.answers ?? about.answers) : null;
    const same = usual && usual[0] === own[0] && usual[1] === own[1];
    const { answers: _, ...rest } = now;
    const next: State = same ? { ...rest, prompt } : { ...rest, prompt, answers: own };
    // An undefined value is not written into the address, so equal states look alike.
    store.change({ ...next, ...(same ? { answers: undefined } : {}) } as Partial<State>);
  };
  let waiting = 0;
  for (const input of [text, a, b]) {
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = window.setTimeout(read, PAUSE);
    });
    input.addEventListener("change", () => {
      clearTimeout(waiting);
      read();
    });
  }
  which.addEventListener("change", () => {
    clearTimeout(waiting);
    const id = which.value;
    if (id) {
      store.change({ prompt: { id }, answers: undefined } as Partial<State>);
    }
  });
  store.follow(show);
  show();
  const answers = make("div", "row");
  answers.append(field(`Answer A (${about.meanings[0]})`, a), field(`Answer B (${about.meanings[1]})`, b));
  const list = field("Choose", which);
  const cut = make("p", "small", `The first ${about.prompts.length} of ${about.n_prompts} prompts are listed.`);
  cut.hidden = about.n_prompts <= about.prompts.length;
  panel.append(heading, list, cut, field("Text", text), more, answers);
  return panel;
}

function textOf(prompt: Asked, chosen: KnownPrompt | undefined): string {
  if ("text" in prompt) {
    return prompt.text;
  }
  const messages = "messages" in prompt ? prompt.messages : (chosen?.messages ?? []);
  return messages.at(-1)?.content ?? "";
}

function turnsOf(prompt: Asked, chosen: KnownPrompt | undefined): number {
  return "text" in prompt ? 1 : "messages" in prompt ? prompt.messages.length : (chosen?.messages.length ?? 1);
}

/** What is asked when the text reads so. */
function asked(text: string, prompt: Asked, chosen: KnownPrompt | undefined): Asked {
  if (chosen && chosen.messages.at(-1)?.content === text) {
    return { id: chosen.id };
  }
  const messages = "messages" in prompt ? prompt.messages : chosen?.is_chat ? chosen.messages : undefined;
  const last = messages?.at(-1);
  if (messages && last) {
    return { messages: [...messages.slice(0, -1), { role: last.role, content: text }] };
  }
  return { text };
}
