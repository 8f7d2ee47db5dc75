// Edits of models: in words, as a list, and made by the menu of a component or by the forms below the list.

import { make } from "../figures/hover";
import { button, field, numberField, select } from "./parts";
import type { Store } from "./store";
import type { About, Edit, Position } from "./types";

const EVERYWHERE: [string, string][] = [
  ["all", "at every token"],
  ["decision", "at the decision point only"],
];

/** A unit of a layer as readers write it. */
export function unitLabel(unit: string): string {
  const [, site, layer, index] = /^(\w+):(\d+)(?:\.(\d+))?$/.exec(unit) ?? [];
  const names: Record<string, string> = { z: `head ${index}`, mlp_post: "MLP", neuron: `neuron ${index}` };
  return site && names[site] ? `layer ${layer}, ${names[site]}` : unit;
}

/** An edit in words. */
export function inWords(edit: Edit, all: string): string {
  const models = edit.models.length > 0 ? edit.models.join(", ") : all;
  if (edit.kind === "mute") {
    const modules = edit.modules.length > 0 ? edit.modules.join(", ") : "all updates";
    const layers = edit.layers.length > 0 ? ` of layer ${edit.layers.join(", ")}` : "";
    return `mute ${modules}${layers} in ${edit.models.length > 0 ? models : "all adapters"}`;
  }
  const place = edit.position === "decision" ? ", decision point only" : "";
  switch (edit.kind) {
    case "zero":
      return `off: ${unitLabel(edit.unit)} in ${models}${place}`;
    case "mean":
      return `mean: ${unitLabel(edit.unit)} in ${models}${place}`;
    case "patch": {
      const others = edit.models.length > 0 ? models : "all other models";
      return `${unitLabel(edit.unit)} of ${edit.source} put into ${others}${place}`;
    }
    case "steer":
      return `${edit.strength} × (${edit.plus} − ${edit.minus}) added after layer ${edit.layer} in ${models}${place}`;
  }
}

/** The list of edits and the forms for those that no click on a figure makes. */
export function editsPanel(store: Store, about: About): HTMLElement {
  const panel = make("section", "panel edits");
  panel.setAttribute("aria-labelledby", "edits-heading");
  const heading = make("h2", "", "Edits of the models");
  heading.id = "edits-heading";
  const list = make("ul", "edit-list");
  const none = make("p", "small", "None. Click a head or an MLP in a heat map, or add one here.");
  const clear = button("Remove all edits", () => store.change({ edits: [] }), "plain");
  const show = () => {
    const { edits } = store.state;
    list.replaceChildren(
      ...edits.map((edit, i) => {
        const item = make("li");
        const words = inWords(edit, "all models");
        const remove = button("Remove", () => {
          store.change({ edits: store.state.edits.filter((_, j) => j !== i) });
        });
        remove.setAttribute("aria-label", `Remove: ${words}`);
        item.append(make("span", "", words), remove);
        return item;
      }),
    );
    list.hidden = clear.hidden = edits.length === 0;
    none.hidden = edits.length > 0;
  };
  store.follow(show);
  show();
  panel.append(heading, none, list, clear, steerForm(store, about), muteForm(store, about));
  return panel;
}

function add(store: Store, edit: Edit): void {
  store.change({ edits: [...store.state.edits, edit] });
}

const modelsOf = (choice: string) => (choice ? [choice] : []);

function names(about: About): [string, string][] {
  return about.models.map(({ name }) => [name, name]);
}

/** A form that opens. */
function form(title: string, fields: HTMLElement[], act: () => void): HTMLElement {
  const details = make("details", "add");
  details.append(make("summary", "", title));
  const shown = make("form");
  shown.addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  const submit = make("button", "", "Add");
  submit.type = "submit";
  shown.append(...fields, submit);
  details.append(shown);
  return details;
}

function steerForm(store: Store, about: About): HTMLElement {
  const last = about.layers - 1;
  const layer = numberField(Math.floor(about.layers / 2), { min: 0, max: last, step: 1 });
  const plus = select(names(about), about.models[1]?.name ?? about.models[0]?.name ?? "");
  const minus = select(names(about), about.models[0]?.name ?? "");
  const strength = numberField(1, { step: "any" });
  const models = select([["", "all models"], ...names(about)], about.models[0]?.name ?? "");
  const position = select(EVERYWHERE, "all");
  const fields = [
    field("Strength", strength),
    field("Model added", plus),
    field("Model subtracted", minus),
    field(`Layer (0 to ${last})`, layer),
    field("In", models),
    field("Where", position),
  ];
  return form("Steer: add a difference of two models", fields, () => {
    add(store, {
      kind: "steer",
      layer: Number(layer.value),
      plus: plus.value,
      minus: minus.value,
      strength: Number(strength.value),
      models: modelsOf(models.value),
      position: position.value as Position,
    });
  });
}

function muteForm(store: Store, about: About): HTMLElement {
  const adapters = about.models.slice(1);
  const modules = [...new Set(adapters.flatMap((a) => a.blocks.map(([, module]) => module)))];
  const adapter = select([["", "all adapters"], ...adapters.map(({ name }): [string, string] => [name, name])], adapters[0]?.name ?? "");
  const layers = make("input");
  layers.type = "text";
  layers.placeholder = "all, or 3, 5-7";
  layers.pattern = "\\s*|\\s*\\d+(\\s*-\\s*\\d+)?(\\s*,\\s*\\d+(\\s*-\\s*\\d+)?)*\\s*";
  const module = select([["", "all modules"], ...modules.map((m): [string, string] => [m, m])], "");
  const fields = [field("Adapter", adapter), field("Layers", layers), field("Modules", module)];
  const details = form("Mute updates of an adapter", fields, () => {
    add(store, {
      kind: "mute",
      models: modelsOf(adapter.value),
      layers: numbersOf(layers.value),
      modules: modelsOf(module.value),
    });
  });
  details.hidden = adapters.length === 0;
  return details;
}

/** `3, 5-7` as numbers. */
export function numbersOf(text: string): number[] {
  return text
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "")
    .flatMap((part) => {
      const [from = NaN, to = from] = part.split("-").map(Number);
      return Array.from({ length: Math.max(0, Math.min(to - from + 1, 1000)) }, (_, i) => from + i);
    });
}

let menu: HTMLDialogElement | undefined;

/** What can be done with a head or an MLP of a model. */
export function componentMenu(
  store: Store,
  about: About,
  unit: string,
  model: string,
  value: string,
  sweep: (source: string) => void,
): void {
  menu?.remove();
  const dialog = make("dialog", "cell menu");
  menu = dialog;
  const heading = make("h2", "", `${unitLabel(unit)} of ${model}`);
  heading.id = "menu-heading";
  dialog.setAttribute("aria-labelledby", heading.id);
  const position = select(EVERYWHERE, "all");
  const where = () => position.value as Position;
  const done = (edit: Edit) => {
    dialog.close();
    add(store, edit);
  };
  const off = make("div", "row");
  off.append(
    button(`Switch off in ${model}`, () => done({ kind: "zero", unit, models: [model], position: where() })),
    button("Switch off in all models", () => done({ kind: "zero", unit, models: [], position: where() })),
  );
  const mean = make("div", "row");
  mean.append(
    button(`Set to its mean in ${model}`, () => done({ kind: "mean", unit, models: [model], position: where() })),
    button("Set to its mean in all models", () => done({ kind: "mean", unit, models: [], position: where() })),
  );
  dialog.append(heading, make("p", "small", value), field("Where", position), off, mean);
  const others = about.models.filter(({ name }) => name !== model).map(({ name }): [string, string] => [name, name]);
  if (others.length > 0) {
    const source = select(others, others[0]?.[0] ?? "");
    const patch = make("div", "row");
    patch.append(
      field("Other model", source),
      button(`Put its values into ${model}`, () =>
        done({ kind: "patch", unit, source: source.value, models: [model], position: where() }),
      ),
    );
    const every = button(`Patch every head of it into ${model}`, () => {
      dialog.close();
      sweep(source.value);
    });
    const all = make("div", "row");
    all.append(every);
    dialog.append(patch, all);
  }
  const own = store.state.edits.filter((e) => "unit" in e && e.unit === unit);
  if (own.length > 0) {
    const remove = button("Remove its edits", () => {
      dialog.close();
      store.change({ edits: store.state.edits.filter((e) => !own.includes(e)) });
    });
    dialog.append(remove);
  }
  const end = make("div", "row");
  end.append(button("Close", () => dialog.close(), "plain"));
  dialog.append(end);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
