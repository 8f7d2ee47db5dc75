import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import { expect, liveFigure, ORGANISM, SAMPLE, test } from "./pages";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Leaves figures that are not asked about, and most rows of long tables, out of what is judged: they repeat themselves. */
async function thinOut(page: Page, figures: string[]): Promise<void> {
  await page.evaluate((kept) => {
    for (const figure of document.querySelectorAll("figure")) {
      if (!kept.includes(figure.id)) {
        figure.remove();
      }
    }
    for (const row of document.querySelectorAll("tr:nth-child(n+12)")) {
      row.remove();
    }
  }, figures);
}

async function violations(page: Page): Promise<string[]> {
  // By the debugger's way in, since the page lets no other script run.
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const run = (window as unknown as { axe: { run(): Promise<{ violations: { id: string; nodes: { html: string }[] }[] }> } }).axe;
    const found = await run.run();
    return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
  });
}

for (const scheme of ["light", "dark"] as const) {
  test(`a sample page is accessible, ${scheme}`, async ({ quiet }) => {
    await quiet.emulateMedia({ colorScheme: scheme });
    await quiet.goto(SAMPLE);
    const figures = ["decisions", "delta-bars", "lens-trajectories", "heads", "circuit-small", "ranked"];
    await thinOut(quiet, figures);
    for (const name of figures) {
      await liveFigure(quiet, name);
    }
    await quiet.getByLabel("Next prompt").click();
    await quiet.locator(".prompt-text summary").click();
    expect(await violations(quiet)).toEqual([]);
    const heads = await liveFigure(quiet, "heads");
    await heads.locator(".stage").focus();
    await quiet.keyboard.press("ArrowRight");
    await quiet.keyboard.press("Enter");
    await expect(quiet.getByRole("dialog")).toBeVisible();
    expect(await violations(quiet)).toEqual([]);
  });

  test(`a real page is accessible, ${scheme}`, async ({ quiet }) => {
    await quiet.emulateMedia({ colorScheme: scheme });
    await quiet.goto(ORGANISM);
    const figures = ["decisions", "lens_trajectories", "dla_differences"];
    await thinOut(quiet, figures);
    for (const name of figures) {
      await liveFigure(quiet, name);
    }
    expect(await violations(quiet)).toEqual([]);
  });
}
