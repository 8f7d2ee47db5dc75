// The pages under test, and a page that fails a test on any console error or network request.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test as base, expect, type Locator, type Page } from "@playwright/test";

const folder = process.env.LORASCOPE_REPORTS;
if (!folder || !existsSync(join(folder, "sample/report.html"))) {
  throw new Error("LORASCOPE_REPORTS names no folder with sample/report.html; run scripts/test_web");
}

export const place = (path: string) => join(folder, path);

/** Invented data of all kinds. */
export const SAMPLE = pathToFileURL(place("sample/report.html")).href;
/** Names and texts that try to be markup. */
export const HOSTILE = pathToFileURL(place("sample/hostile.html")).href;
/** A real run: the embedded model, 15 prompts, 5 models. */
export const ORGANISM = pathToFileURL(place("organism/report.html")).href;

export const test = base.extend<{ quiet: Page }>({
  quiet: async ({ page }, use) => {
    const problems: string[] = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") {
        problems.push(message.text());
      }
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => {
      if (!/^(file|data|blob):/.test(request.url())) {
        problems.push(`request of ${request.url()}`);
      }
    });
    await use(page);
    expect(problems).toEqual([]);
  },
});

/** A figure, once it is interactive. */
export async function liveFigure(page: Page, name: string): Promise<Locator> {
  const figure = page.locator(`figure#${name}`);
  await figure.scrollIntoViewIfNeeded();
  await expect(figure).toHaveClass(/is-live/);
  await expect(figure.locator(".stage svg")).toBeVisible();
  return figure;
}

export { expect };
