import { existsSync, statSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, HOSTILE, liveFigure, ORGANISM, SAMPLE, test } from "./pages";

test("a real page opens from disk, quickly and without network", async ({ quiet }) => {
  expect(statSync(fileURLToPath(ORGANISM)).size).toBeLessThan(15_000_000);
  await quiet.goto(ORGANISM);
  const ready = await quiet.evaluate(() => performance.getEntriesByName("lorascope-interactive")[0]?.startTime);
  expect(ready).toBeLessThan(2000);
  // Everything comes into view once.
  const names = await quiet.locator("figure").evaluateAll((figures) => figures.map((f) => f.id));
  expect(names.length).toBeGreaterThan(5);
  for (const name of names) {
    await liveFigure(quiet, name);
  }
});

test("every link leads somewhere", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const links = await quiet.locator("a[href]").evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).href));
  expect(links.length).toBeGreaterThan(20);
  const page = ORGANISM;
  for (const link of new Set(links)) {
    const [file, id] = link.split("#");
    expect(existsSync(fileURLToPath(file ?? "")), link).toBe(true);
    if (file === page && id) {
      await expect(quiet.locator(`[id="${id}"]`), link).toHaveCount(1);
    }
  }
});

test("the first screen says what is claimed and how sure it is, with links", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const glance = quiet.locator(".glance li");
  await expect(glance).toHaveCount(4);
  for (const item of await glance.all()) {
    await expect(item).toBeInViewport();
  }
  const card = quiet.locator(".card", { hasText: "decide differently" }).first();
  await expect(card).toContainText("[");
  await expect(card.getByRole("link", { name: "Table decisions" })).toHaveAttribute("href", "tables/decisions.csv");
});

test("a claim opens its rows, marked, and they lead back", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const card = quiet.locator(".card", { hasText: "decide differently" }).first();
  await card.getByRole("link", { name: "Rows" }).click();
  const rows = quiet.locator("details.claim-rows.asked");
  await expect(rows).toHaveCount(1);
  await expect(rows).toHaveAttribute("open", "");
  await expect(rows).toBeInViewport();
  // They stand in the section of their table, and are what the claim says.
  await expect(quiet.locator("section#decide").locator("details.claim-rows.asked")).toHaveCount(1);
  const models = await rows.locator("tbody td:first-child").allTextContents();
  expect(new Set(models)).toEqual(new Set(["deontological", "utilitarian"]));
  await rows.getByRole("link", { name: "Back to the claim" }).click();
  await expect(card).toBeInViewport();
  // Shut again, a second click opens them again.
  await rows.evaluate((element) => element.removeAttribute("open"));
  await card.getByRole("link", { name: "Rows" }).click();
  await expect(rows).toHaveAttribute("open", "");
});

test("every claim with a table has rows on the page, and those are not empty", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const cards = quiet.locator(".card", { has: quiet.getByRole("link", { name: /^Table / }) });
  expect(await cards.count()).toBeGreaterThan(5);
  for (const card of await cards.all()) {
    const id = await card.getByRole("link", { name: "Rows" }).getAttribute("href");
    const rows = quiet.locator(id ?? "none");
    await expect(rows).toHaveCount(1);
    const said = await rows.locator("p.small").textContent();
    const n = Number(/of (\d+) rows/.exec(said ?? "")?.[1]);
    expect(n, said ?? "").toBeGreaterThan(0);
  }
});

test("from a figure to the rows behind its claim", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const card = quiet.locator(".card", { has: quiet.getByRole("link", { name: /^Figure circuit/ }) }).first();
  const name = (await card.getByRole("link", { name: /^Figure / }).getAttribute("href")) ?? "";
  await card.getByRole("link", { name: /^Figure / }).click();
  const figure = quiet.locator(`figure${name}`);
  await expect(figure).toBeInViewport();
  await figure.locator("a.to-rows").first().click();
  await expect(quiet.locator("details.claim-rows.asked")).toBeInViewport();
});

test("a choice says which rows of the tables it is", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const decisions = await liveFigure(quiet, "decisions");
  await expect(decisions.locator(".where")).toBeHidden();
  await quiet.getByLabel("Next prompt").click();
  await expect(decisions.locator(".where summary")).toBeVisible();
  await decisions.locator(".where summary").click();
  const prompt = await quiet.locator("#prompt-picker option:checked").textContent();
  await expect(decisions.locator(".where li", { hasText: "decisions.csv" }).first()).toContainText(`prompt_id = "${prompt}"`);
  await quiet.getByRole("button", { name: "hybrid", exact: true }).first().click();
  await expect(decisions.locator(".where li").first()).toContainText("model in base, strategic");
});

test("markup in names and texts stays text", async ({ quiet }) => {
  await quiet.goto(HOSTILE);
  const decisions = await liveFigure(quiet, "decisions");
  await decisions.locator(".stage").focus();
  await quiet.keyboard.press("ArrowRight");
  await quiet.keyboard.press("Enter");
  await expect(quiet.locator("dialog.cell")).toBeVisible();
  await quiet.locator("dialog.cell button.plain").first().click();
  await quiet.locator(".prompt-text summary").click();
  await expect(quiet.locator(".prompt-text pre")).toContainText("<script>window.hacked=1</script>");
  await liveFigure(quiet, "delta-bars");
  await liveFigure(quiet, "lens-trajectories");
  expect(await quiet.evaluate(() => "hacked" in window)).toBe(false);
  expect(await quiet.locator("img").count()).toBe(0);
});

test("without scripts everything is there, still", async ({ browser }) => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(SAMPLE);
  await expect(page.locator("figure#decisions .still svg")).toBeVisible();
  await page.locator("figure#decisions summary").click();
  await expect(page.locator("figure#decisions table")).toBeVisible();
  await context.close();
});

test("on paper the still drawings stand, not the tools", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const decisions = await liveFigure(quiet, "decisions");
  await quiet.emulateMedia({ media: "print" });
  await expect(decisions.locator(".still")).toBeVisible();
  await expect(decisions.locator(".live")).toBeHidden();
  await expect(quiet.locator(".bar")).toBeHidden();
});

test("a phone shows all without scrolling aside", async ({ quiet }) => {
  await quiet.setViewportSize({ width: 390, height: 800 });
  for (const address of [SAMPLE, ORGANISM]) {
    await quiet.goto(address);
    const names = await quiet.locator("figure").evaluateAll((figures) => figures.map((f) => f.id));
    for (const name of names.slice(0, 12)) {
      await liveFigure(quiet, name);
    }
    expect(await quiet.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(390);
  }
});

test("light, dark or what the system says", async ({ quiet }) => {
  await quiet.emulateMedia({ colorScheme: "dark" });
  await quiet.goto(SAMPLE);
  const paper = () => quiet.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await paper();
  await quiet.getByLabel("Colours").selectOption("light");
  expect(await paper()).toBe("rgb(255, 255, 255)");
  await quiet.getByLabel("Colours").selectOption("dark");
  await quiet.emulateMedia({ colorScheme: "light" });
  expect(await paper()).toBe(dark);
});
