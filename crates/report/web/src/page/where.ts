// Which rows of which tables a figure shows, in words: what to look up in the run folder.

import { make } from "../figures/hover";
import type { Choice } from "./state";

export interface TableFile {
  section: string;
  name: string;
  columns: string[];
}

/** The tables of a figure's section with the conditions that select the chosen prompt and models; nothing where nothing is chosen. */
export function whereOf(tables: TableFile[], choice: Choice, allModels: string[]): HTMLElement[] {
  const some = choice.models.size < allModels.length;
  const conditions = (table: TableFile) => {
    const found: string[] = [];
    if (choice.prompt !== null && table.columns.includes("prompt_id")) {
      found.push(`prompt_id = ${JSON.stringify(choice.prompt)}`);
    }
    if (some && table.columns.includes("model")) {
      found.push(`model in ${allModels.filter((m) => choice.models.has(m)).join(", ")}`);
    }
    return found;
  };
  return tables.flatMap((table) => {
    const found = conditions(table);
    if (found.length === 0) {
      return [];
    }
    const line = make("li");
    const link = make("a", "", `${table.name}.csv`);
    link.href = `tables/${table.name}.csv`;
    line.append(link, ` where ${found.join(" and ")}`);
    return [line];
  });
}
