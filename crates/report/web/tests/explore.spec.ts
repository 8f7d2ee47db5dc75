import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { answered, deltas, expect, PROGRAM, test } from "./explorer";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const MODELS = ["base", "strategic", "deontological", "utilitarian", "hybrid"];

test("the first prompt is answered by all models", async ({ explorer }) => {
  const found = await deltas(explorer);
  expect(Object.keys(found)).toEqual(MODELS);
  for (const delta of Object.values(found)) {
    expect(delta).toMatch(/^[+−]\d+\.\d{3}$/);
  }
  for (const id of ["decide", "lens", "dla"]) {
    await expect(explorer.locator(`#${id} .stage svg`).first()).toBeVisible();
  }
  await expect(explorer.locator("#dla")).toContainText("All components of a model add up to its logit difference");
});

test("a typed prompt is asked, and undo brings the one before", async ({ explorer }) => {
  const before = await deltas(explorer);
  const chosen = await explorer.getByLabel("Choose", { exact: true }).inputValue();
  const text = explorer.getByLabel("Text", { exact: true });
  const old = await text.inputValue();
  await text.fill(`${old} Think twice.`);
  await expect(explorer.getByLabel("Choose", { exact: true })).toHaveValue("");
  await answered(explorer);
  expect(await deltas(explorer)).not.toEqual(before);
  await explorer.getByRole("button", { name: "Undo" }).click();
  await expect(text).toHaveValue(old);
  await expect(explorer.getByLabel("Choose", { exact: true })).toHaveValue(chosen);
  await answered(explorer);
  expect(await deltas(explorer)).toEqual(before);
  await explorer.getByRole("button", { name: "Redo" }).click();
  await expect(text).toHaveValue(`${old} Think twice.`);
  await answered(explorer);
});

test("what is typed as markup is inert", async ({ explorer }) => {
  const evil = "<img src=x onerror=alert(1)><script>alert(2)</script> Which?";
  await explorer.getByLabel("Text", { exact: true }).fill(evil);
  await explorer.getByLabel(/^Answer A/).fill("<b>yes</b>");
  await explorer.getByLabel(/^Answer B/).fill("<i>no</i>");
  await explorer.getByLabel(/^Answer B/).press("Tab");
  await answered(explorer);
  await expect(explorer.locator("#decide th").nth(1)).toHaveText("P(<i>no</i>)");
  expect(await explorer.locator("main img, main b, main i").count()).toBe(0);
});

test("a head is switched off with the keyboard, and going back brings the same numbers", async ({ explorer }) => {
  const before = await deltas(explorer);
  const stage = explorer.locator("#dla .stage").first();
  await stage.focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  const menu = explorer.getByRole("dialog");
  await expect(menu).toBeVisible();
  await menu.getByRole("button", { name: "Switch off in all models" }).click();
  await expect(explorer.locator(".edit-list li")).toHaveCount(1);
  await expect(explorer.locator(".edit-list li")).toContainText(/off: layer \d+, head \d+ in all models/);
  await answered(explorer);
  await expect(explorer.locator("#decide thead")).toContainText("change");
  await expect(explorer.locator("#dla figure")).toHaveCount(2);
  expect(await deltas(explorer)).not.toEqual(before);
  await explorer.locator("body").click({ position: { x: 2, y: 2 } });
  await explorer.keyboard.press("Control+z");
  await expect(explorer.locator(".edit-list li")).toHaveCount(0);
  await answered(explorer);
  expect(await deltas(explorer)).toEqual(before);
});

test("a head is set to its mean from the menu", async ({ explorer }) => {
  const before = await deltas(explorer);
  await explorer.locator("#dla .stage").first().focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  await explorer.getByRole("dialog").getByRole("button", { name: "Set to its mean in all models" }).click();
  await expect(explorer.locator(".edit-list li")).toContainText(/mean: layer \d+, head \d+ in all models/);
  await answered(explorer);
  expect(await deltas(explorer)).not.toEqual(before);
  await explorer.getByRole("button", { name: "Remove all edits" }).click();
  await answered(explorer);
  expect(await deltas(explorer)).toEqual(before);
});

test("a sweep is drawn, follows the state, and opens the menu of a head", async ({ explorer }) => {
  const panel = explorer.locator(".sweep");
  await panel.getByLabel("From").selectOption("hybrid");
  await panel.getByLabel("Into").selectOption("hybrid");
  await panel.getByRole("button", { name: "Patch", exact: true }).click();
  await expect(panel).toContainText("Choose two models that differ");
  await panel.getByLabel("Into").selectOption("base");
  await panel.getByRole("button", { name: "Patch", exact: true }).click();
  const sweep = explorer.locator("#patch");
  await expect(sweep).toContainText("Every head and MLP of hybrid put into base");
  await answered(explorer);
  await expect(sweep.locator(".stage svg")).toBeVisible();
  await expect(sweep.locator("tbody tr")).toHaveCount(8);
  const largest = () => sweep.locator("tbody tr").first().textContent();
  const before = await largest();
  // Sorted by size.
  const changes = await sweep.locator("tbody tr td:nth-of-type(2)").allTextContents();
  const sizes = changes.map((text) => Math.abs(Number(text.replace("−", "-"))));
  expect(sizes).toEqual([...sizes].sort((a, b) => b - a));
  // Another prompt, another sweep; under an edit both stand beside each other.
  await explorer.getByLabel("Choose", { exact: true }).selectOption({ index: 3 });
  await answered(explorer);
  expect(await largest()).not.toBe(before);
  await sweep.locator(".stage").focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  await expect(explorer.getByRole("dialog")).toContainText("of base");
  await explorer.getByRole("dialog").getByRole("button", { name: "Switch off in base" }).click();
  await answered(explorer);
  await expect(sweep.locator("figure")).toHaveCount(1);
  await explorer.getByRole("button", { name: "Take away" }).click();
  await answered(explorer);
  await expect(sweep).toHaveCount(0);
  // From the menu of a head, too.
  await explorer.locator("#dla .stage").first().focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  await explorer.getByRole("dialog").getByRole("button", { name: "Patch every head of it into base" }).click();
  await answered(explorer);
  await expect(sweep).toContainText("put into base");
});

test("decisions stand while the rest is computed", async ({ explorer }) => {
  // The lens is held back; decisions do not wait for it.
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  await explorer.route("**/api/ask", async (route) => {
    if (route.request().postData()?.includes('"analyses":["lens"]')) {
      await held;
    }
    await route.continue();
  });
  const before = await deltas(explorer);
  await explorer.getByLabel("Choose", { exact: true }).selectOption({ index: 4 });
  await expect(explorer.locator(".status")).toHaveText(/^Asking/);
  await expect.poll(() => deltas(explorer)).not.toEqual(before);
  await expect(explorer.locator("#decide")).not.toHaveClass(/stale/);
  await expect(explorer.locator("#lens")).toHaveClass(/stale/);
  letGo();
  await answered(explorer);
  await expect(explorer.locator("#lens")).not.toHaveClass(/stale/);
});

test("a muted adapter is the base, a steered base is not", async ({ explorer }) => {
  const before = await deltas(explorer);
  await explorer.getByText("Mute updates of an adapter").click();
  await explorer.getByLabel("Adapter", { exact: true }).selectOption("hybrid");
  await explorer.locator("details[open]").getByRole("button", { name: "Add" }).click();
  await expect(explorer.locator(".edit-list li")).toHaveCount(1);
  await answered(explorer);
  const muted = await deltas(explorer);
  expect(muted["hybrid"]).toBe(before["base"]);
  expect(muted["strategic"]).toBe(before["strategic"]);
  await explorer.locator(".edit-list").getByRole("button").click();
  await explorer.getByText("Mute updates of an adapter").click();
  await explorer.getByText("Steer: add a difference").click();
  await explorer.getByLabel("Model added").selectOption("hybrid");
  await explorer.locator("details[open]").getByRole("button", { name: "Add" }).click();
  await answered(explorer);
  await expect(explorer.locator("#dla")).toContainText(/The vector added after layer \d+ contributes/);
  expect((await deltas(explorer))["base"]).not.toBe(before["base"]);
});

test("a link restores the state", async ({ explorer, context }) => {
  await explorer.getByLabel("Text", { exact: true }).fill("Choose one or two.");
  await explorer.getByLabel(/^Answer A/).fill("one");
  await explorer.getByLabel(/^Answer B/).fill("two");
  await explorer.getByLabel(/^Answer B/).press("Tab");
  await answered(explorer);
  await explorer.locator("#dla .stage").first().focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  await explorer.getByRole("dialog").getByRole("button", { name: /^Switch off in base/ }).click();
  await expect(explorer.locator(".edit-list li")).toHaveCount(1);
  await answered(explorer);
  const other = await context.newPage();
  await other.goto(explorer.url());
  await answered(other);
  expect(await deltas(other)).toEqual(await deltas(explorer));
  await expect(other.getByLabel("Text", { exact: true })).toHaveValue("Choose one or two.");
  await expect(other.locator(".edit-list li")).toHaveCount(1);
  // A link to other models, and one that is none.
  const about = (state: unknown) => `${explorer.url().split("#")[0]}#${encodeURIComponent(JSON.stringify(state))}`;
  await other.goto("about:blank");
  await other.goto(about({ models: ["base", "nobody"], prompt: { text: "x" } }));
  await expect(other.locator(".status")).toContainText("this state is about the models base, nobody");
  await other.close();
});

test("an exported study runs and says the same", async ({ explorer, server }) => {
  test.setTimeout(120_000);
  await explorer.locator("#dla .stage").first().focus();
  await explorer.keyboard.press("ArrowRight");
  await explorer.keyboard.press("Enter");
  await explorer.getByRole("dialog").getByRole("button", { name: /^Switch off in base/ }).click();
  await expect(explorer.locator(".edit-list li")).toHaveCount(1);
  await answered(explorer);
  const shown = await deltas(explorer);
  const downloads: Promise<unknown>[] = [];
  explorer.on("download", (download) => downloads.push(download.saveAs(join(server.folder, download.suggestedFilename()))));
  await explorer.getByRole("button", { name: "Export as study" }).click();
  await expect(explorer.locator(".status")).toContainText("Saved explored.toml and explored.prompts.json");
  await expect.poll(() => downloads.length).toBe(2);
  await Promise.all(downloads);
  const env = { ...process.env, LORASCOPE_CACHE: join(server.folder, "cache") };
  execFileSync(PROGRAM, ["study", "explored.toml", "--out", "explored", "--threads", "1"], { cwd: server.folder, env });
  const [head = "", ...rows] = readFileSync(join(server.folder, "explored/tables/decisions.csv"), "utf8").trim().split("\n");
  const [model, delta] = [head.split(",").indexOf("model"), head.split(",").indexOf("delta")];
  const signed = (v: number) => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(3)}`;
  for (const row of rows.map((r) => r.split(","))) {
    expect(shown[row[model] ?? ""]).toBe(signed(Number(row[delta])));
  }
});

test("what can't be asked says why", async ({ explorer }) => {
  await explorer.getByLabel("Text", { exact: true }).fill("x ".repeat(4000));
  await expect(explorer.locator(".status.failed")).toContainText("context");
  await explorer.getByRole("button", { name: "Undo" }).click();
  await answered(explorer);
});

for (const scheme of ["light", "dark"] as const) {
  test(`the page is accessible, ${scheme}`, async ({ explorer }) => {
    await explorer.emulateMedia({ colorScheme: scheme });
    const violations = async () => {
      await explorer.evaluate(axe);
      return explorer.evaluate(async () => {
        type Found = { violations: { id: string; nodes: { html: string }[] }[] };
        const { axe } = window as unknown as { axe: { run(): Promise<Found> } };
        const found = await axe.run();
        return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`);
      });
    };
    await explorer.locator("summary").first().click();
    expect(await violations()).toEqual([]);
    await explorer.locator("#dla .stage").first().focus();
    await explorer.keyboard.press("ArrowRight");
    await explorer.keyboard.press("Enter");
    await expect(explorer.getByRole("dialog")).toBeVisible();
    expect(await violations()).toEqual([]);
    await explorer.getByRole("dialog").getByRole("button", { name: "Switch off in all models" }).click();
    await answered(explorer);
    expect(await violations()).toEqual([]);
  });
}
