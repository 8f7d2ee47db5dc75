// Small pieces of forms.

import { make } from "../figures/hover";

let count = 0;

export function button(text: string, act: () => void, name = ""): HTMLButtonElement {
  const made = make("button", name, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

/** A control under its name. */
export function field(name: string, control: HTMLElement): HTMLElement {
  count += 1;
  control.id = `field-${count}`;
  const label = make("label", "", name);
  label.htmlFor = control.id;
  const shown = make("div", "field");
  shown.append(label, control);
  return shown;
}

/** A choice among values, each with its text. */
export function select(options: [string, string][], chosen: string): HTMLSelectElement {
  const made = make("select");
  for (const [value, text] of options) {
    const option = make("option", "", text);
    option.value = value;
    option.selected = value === chosen;
    made.append(option);
  }
  return made;
}

export function numberField(value: number, limits: { min?: number; max?: number; step: number | "any" }): HTMLInputElement {
  const made = make("input");
  made.type = "number";
  made.required = true;
  made.step = String(limits.step);
  if (limits.min !== undefined) {
    made.min = String(limits.min);
  }
  if (limits.max !== undefined) {
    made.max = String(limits.max);
  }
  made.value = String(value);
  return made;
}
