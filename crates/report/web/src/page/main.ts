// The page's script: reads what the page carries and makes its figures answer. Without it the page is complete, but still.

import type { Theme } from "../figures";
import { buildBar, themePicker } from "./bar";
import { FigureView } from "./figure";
import { followRows } from "./rows";
import { type Prompt, State } from "./state";
import type { TableFile } from "./where";

interface PageData {
  theme: Theme;
  models: string[];
  prompts: Prompt[];
  tables: TableFile[];
}

/** Figures this far outside the window are drawn in advance. */
const AHEAD = "400px 0px";

function begin(): void {
  const json = document.getElementById("page-data")?.textContent;
  if (!json) {
    return;
  }
  const data = JSON.parse(json) as PageData;
  const state = new State(data.models, data.prompts);
  document.querySelector("header")?.prepend(themePicker());
  document.querySelector("nav")?.before(buildBar(state, data.theme.models.length));
  const tablesOf = (figure: Element) => {
    const section = figure.closest("section")?.id;
    return data.tables.filter((table) => table.section === section);
  };
  const views = new Map<Element, FigureView>();
  for (const element of document.querySelectorAll<HTMLElement>("figure[id]")) {
    views.set(element, new FigureView(element, data.theme, state, tablesOf(element)));
  }
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        void views.get(entry.target)?.seen(entry.isIntersecting);
      }
    },
    { rootMargin: AHEAD },
  );
  for (const element of views.keys()) {
    observer.observe(element);
  }
  followRows();
  document.documentElement.classList.add("has-script");
  performance.mark("lorascope-interactive");
}

begin();
