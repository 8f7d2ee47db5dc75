// The explorer on the embedded model, once for each worker; and a page that fails a test on any console error or foreign request.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test as base, expect, type Page } from "@playwright/test";

/** The program under test. */
export const PROGRAM = process.env.LORASCOPE_PROGRAM ?? new URL("../../../../target/debug/lorascope", import.meta.url).pathname;
if (!existsSync(PROGRAM)) {
  throw new Error(`${PROGRAM} is missing; build it, or name one in LORASCOPE_PROGRAM`);
}

const ADAPTERS = ["strategic", "deontological", "utilitarian", "hybrid"];
export const MODELS = ["--base", "organism", ...ADAPTERS.flatMap((a) => ["--adapter", `${a}=organism:${a}`])];

async function address(server: ChildProcess): Promise<string> {
  const said: string[] = [];
  server.stderr?.on("data", (data: Buffer) => said.push(data.toString()));
  for await (const line of createInterface({ input: server.stdout! })) {
    return line.trim();
  }
  throw new Error(`the explorer did not start: ${said.join("")}`);
}

export const test = base.extend<{ explorer: Page }, { server: { url: string; folder: string } }>({
  server: [
    // biome-ignore lint/correctness/noEmptyPattern: Playwright wants a pattern
    async ({}, use) => {
      const folder = await mkdtemp(join(tmpdir(), "lorascope-explore-"));
      const options = { cwd: folder, env: { ...process.env, LORASCOPE_CACHE: join(folder, "cache") } };
      const server = spawn(PROGRAM, ["explore", ...MODELS, "--threads", "1"], options);
      try {
        await use({ url: await address(server), folder });
      } finally {
        server.kill("SIGINT");
        await rm(folder, { recursive: true, force: true });
      }
    },
    { scope: "worker", timeout: 120_000 },
  ],
  explorer: async ({ page, server }, use) => {
    const problems: string[] = [];
    page.on("console", (message) => {
      // The browser itself notes refusals, which the page shows.
      const refusal = /status of (409|422)/.test(message.text());
      if (!refusal && (message.type() === "error" || message.type() === "warning")) {
        problems.push(message.text());
      }
    });
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(server.url) && !/^(data|blob):/.test(request.url())) {
        problems.push(`request of ${request.url()}`);
      }
    });
    await page.goto(server.url);
    await answered(page);
    await use(page);
    expect(problems).toEqual([]);
  },
});

/** Once the models have answered what the page asks now. */
export async function answered(page: Page): Promise<void> {
  await expect(page.locator(".status")).toHaveText(/^Answered/, { timeout: 60_000 });
}

/** delta of each model, as the table of decisions shows it. */
export async function deltas(page: Page): Promise<Record<string, string>> {
  const rows = page.locator("#decide tbody tr");
  const found: Record<string, string> = {};
  for (const row of await rows.all()) {
    found[(await row.getAttribute("data-model")) ?? ""] = (await row.locator("td").nth(1).textContent()) ?? "";
  }
  return found;
}

export { expect };
