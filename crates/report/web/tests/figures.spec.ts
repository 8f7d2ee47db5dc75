import { readFileSync } from "node:fs";
import { expect, liveFigure, ORGANISM, SAMPLE, test } from "./pages";

test("colours of the page are those of the program", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const heads = await liveFigure(quiet, "heads");
  const fills = (part: string) =>
    heads.locator(`${part} svg`).evaluate((svg) => {
      const found = [...svg.querySelectorAll("[fill^='#']:not([class])")].map((e) => e.getAttribute("fill") ?? "");
      return [...new Set(found)].sort();
    });
  const [still, live] = [await fills(".still"), await fills(".stage")];
  expect(live.length).toBeGreaterThan(50);
  // The bar of colours is the same; cells are the same values.
  expect(live.filter((fill) => !still.includes(fill))).toEqual([]);
});

// A fraction of a pixel is enough for one bar, which takes room and so brings the other.
test("where scroll bars take room, a figure that fits has none", async ({ playwright, launchOptions, viewport }) => {
  const browser = await playwright.chromium.launch({ ...launchOptions, ignoreDefaultArgs: ["--hide-scrollbars"] });
  const page = await browser.newPage({ viewport });
  for (const address of [SAMPLE, ORGANISM]) {
    await page.goto(address);
    const names = await page.locator("figure").evaluateAll((figures) => figures.map((figure) => figure.id));
    for (const name of names) {
      const figure = page.locator(`figure#${name}`);
      await figure.scrollIntoViewIfNeeded();
      await expect(figure).toHaveClass(/is-live/);
    }
    const bars = await page.locator(".live .scroll").evaluateAll((scrollers) =>
      (scrollers as HTMLElement[])
        .filter((one) => one.scrollWidth <= one.offsetWidth && one.offsetHeight > one.clientHeight + 2)
        .map((one) => one.closest("figure")?.id),
    );
    expect(names.length).toBeGreaterThan(5);
    expect(bars).toEqual([]);
  }
  await browser.close();
});

test("a value, its interval and n under the pointer", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const decisions = await liveFigure(quiet, "decisions");
  await decisions.locator(".stage svg").hover({ position: { x: 200, y: 60 } });
  const tip = decisions.locator(".tip");
  await expect(tip).toBeVisible();
  await expect(tip).toContainText(/\[.+, .+\]/);
  await expect(tip).toContainText("n = 3 prompts");
});

test("arrow keys go from value to value and say them", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const lens = await liveFigure(quiet, "lens-trajectories");
  await lens.locator(".stage").focus();
  await quiet.keyboard.press("ArrowRight");
  await quiet.keyboard.press("ArrowRight");
  await expect(lens.locator(".spoken[aria-live]")).toContainText("CC_continue, base, layer 1:");
  await quiet.keyboard.press("ArrowDown");
  await expect(lens.locator(".spoken[aria-live]")).toContainText("CC_continue, strategic, layer 1:");
  await quiet.keyboard.press("Escape");
  await expect(lens.locator(".tip")).toBeHidden();
});

test("a cell lists its prompts, and one of them is shown everywhere", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const heads = await liveFigure(quiet, "heads");
  await heads.locator(".stage").focus();
  await quiet.keyboard.press("ArrowRight");
  await quiet.keyboard.press("ArrowRight");
  await quiet.keyboard.press("Enter");
  const list = quiet.getByRole("dialog");
  await expect(list.locator("tbody tr")).toHaveCount(15);
  const values = await list.locator("tbody td.number").allTextContents();
  const numbers = values.map((text) => Number(text.replace("−", "-")));
  expect(numbers).toEqual([...numbers].sort((a, b) => b - a));
  const first = await list.locator("tbody button").first().textContent();
  await list.locator("tbody button").first().click();
  await expect(list).toHaveCount(0);
  await expect(quiet.locator("#prompt-picker").locator("option:checked")).toHaveText(first ?? "");
  await expect(quiet.locator(".prompt-text")).toContainText(first ?? "");
  const decisions = await liveFigure(quiet, "decisions");
  // One prompt is of one scenario: one column is left.
  await decisions.locator(".stage").focus();
  await quiet.keyboard.press("ArrowRight");
  await expect(decisions.locator(".tip")).toContainText("one prompt");
});

test("models are left out of every figure, and come back", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const decisions = await liveFigure(quiet, "decisions");
  const labels = () => decisions.locator(".stage text").allTextContents();
  expect(await labels()).toContain("strategic");
  const models = quiet.getByRole("group", { name: "Models shown" });
  await models.getByRole("button", { name: "strategic" }).press("Enter");
  await expect.poll(labels).not.toContain("strategic");
  expect(await labels()).toContain("hybrid");
  const heads = await liveFigure(quiet, "lens-trajectories");
  await expect(heads.locator(".legend button")).toHaveCount(4);
  await models.getByRole("button", { name: "Show all models" }).click();
  await liveFigure(quiet, "decisions");
  await expect.poll(labels).toContain("strategic");
});

test("a legend hides a series", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const lens = await liveFigure(quiet, "lens-trajectories");
  const curves = () => lens.locator(".stage path.stroke-c0").count();
  expect(await curves()).toBe(5);
  const button = lens.locator(".legend").getByRole("button", { name: "strategic" });
  await button.press("Space");
  await expect.poll(curves).toBe(0);
  await expect(button).toHaveAttribute("aria-pressed", "false");
  await expect(button).toBeFocused();
});

test("a node of a circuit lights its connections, and a click pins it", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const circuit = await liveFigure(quiet, "circuit-small");
  await circuit.locator(".stage g.node").nth(2).hover();
  await expect(circuit.locator(".tip")).toBeVisible();
  const dimmed = () => circuit.locator(".stage g.dimmed").count();
  expect(await dimmed()).toBeGreaterThan(0);
  await quiet.mouse.down();
  await quiet.mouse.up();
  await quiet.mouse.move(2, 2);
  await expect.poll(dimmed).toBeGreaterThan(0);
  await circuit.locator(".stage").focus();
  await quiet.keyboard.press("ArrowRight");
  await expect(circuit.locator(".spoken[aria-live]")).not.toBeEmpty();
});

test("files hold what is shown", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  await quiet.locator("#prompt-picker").selectOption("p03");
  const decisions = await liveFigure(quiet, "decisions");
  const file = async (form: string) => {
    const waiting = quiet.waitForEvent("download");
    await decisions.getByRole("button", { name: new RegExp(`as ${form}$`) }).click();
    const download = await waiting;
    return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
  };
  const csv = await file("CSV");
  expect(csv.name).toBe("decisions-p03.csv");
  const rows = csv.bytes.toString().trim().split("\n");
  expect(rows[0]).toBe("panel,row,column,value,lo,hi");
  expect(rows.length).toBe(1 + 5);
  expect(rows.every((row, i) => i === 0 || row.includes("DC_exploited"))).toBe(true);
  const svg = (await file("SVG")).bytes.toString();
  expect(svg).toContain("Probability to defect, by model and scenario");
  expect(svg).toContain("@font-face");
  const problems = await quiet.evaluate((text) => {
    const parsed = new DOMParser().parseFromString(text, "image/svg+xml");
    return parsed.querySelectorAll("parsererror").length;
  }, svg);
  expect(problems).toBe(0);
  const png = (await file("PNG")).bytes;
  expect(png.subarray(1, 4).toString()).toBe("PNG");
  expect(png.readUInt32BE(16)).toBe(3000);
  const chunk = png.indexOf("pHYs");
  expect(png.readUInt32BE(chunk + 4)).toBe(11811);
});

test("what a head reads, token by token", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const rows = await liveFigure(quiet, "attention-rows");
  const value = async () => {
    await rows.locator(".stage").focus();
    await quiet.keyboard.press("ArrowRight");
    await quiet.keyboard.press("ArrowRight");
    const spoken = (await rows.locator(".spoken[aria-live]").textContent()) ?? "";
    expect(spoken).toContain('token 1, "You" in other');
    return Number(spoken.split(": ").at(-1)?.replace("−", "-"));
  };
  // The sample's weights: (1 + sin(5 · row + 3 · token)) / 20, rows counted over models, layers of three, heads of four.
  const weight = (model: number, layer: number, head: number) => (1 + Math.sin(5 * ((model * 3 + layer) * 4 + head) + 3)) / 20;
  await rows.getByLabel("Layer", { exact: true }).selectOption("1");
  await rows.getByLabel("Head", { exact: true }).selectOption("2");
  expect(Math.abs((await value()) - (weight(1, 1, 2) - weight(0, 1, 2)))).toBeLessThan(0.003);
  await rows.getByLabel("minus", { exact: true }).selectOption("nothing");
  expect(Math.abs((await value()) - weight(1, 1, 2))).toBeLessThan(0.0015);
  await rows.getByLabel("Model", { exact: true }).selectOption("base");
  expect(Math.abs((await value()) - weight(0, 1, 2))).toBeLessThan(0.0015);
  await expect(rows.locator(".span-sums div")).toHaveCount(2);
  // The page's prompt is taken over where its weights are kept.
  await quiet.locator("#prompt-picker").selectOption("p01");
  await expect(rows.locator(".stage text").first()).toContainText("p01");
});

test("ten thousand cells stay fluid", async ({ quiet }) => {
  await quiet.goto(SAMPLE);
  const map = await liveFigure(quiet, "large-map");
  const elements = await map.locator(".stage svg *").count();
  expect(elements).toBeLessThan(1500);
  const times = await map.locator(".stage").evaluate(async (stage) => {
    const ask = window.requestAnimationFrame.bind(window);
    const times: number[] = [];
    // What the figure does in a frame, with the style and layout that follow from it; not how long the frame waits.
    window.requestAnimationFrame = (act) =>
      ask((now) => {
        const begun = performance.now();
        act(now);
        stage.getBoundingClientRect();
        times.push(performance.now() - begun);
      });
    const box = stage.getBoundingClientRect();
    for (let i = 0; i < 60; i++) {
      const at = { clientX: box.left + 60 + i * 11, clientY: box.top + 80 + i * 7, bubbles: true };
      stage.dispatchEvent(new PointerEvent("pointermove", at));
      await new Promise((done) => ask(done));
    }
    window.requestAnimationFrame = ask;
    return times.sort((a, b) => a - b);
  });
  expect(times.length).toBe(60);
  expect(times[Math.floor(times.length * 0.9)]).toBeLessThan(16);
});

test("figures of a real run show one prompt, and cells list theirs", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  await quiet.getByLabel("Next prompt").click();
  for (const name of ["decisions", "lens_trajectories", "dla_differences", "patch_map"]) {
    const figure = await liveFigure(quiet, name);
    await expect(figure.locator(".nothing"), name).toHaveCount(0);
    await figure.locator(".stage").focus();
    await quiet.keyboard.press("ArrowRight");
    await expect(figure.locator(".tip"), name).toContainText("one prompt");
  }
});

test("a difference belongs to the model that is compared, not to the base", async ({ quiet }) => {
  await quiet.goto(ORGANISM);
  const map = await liveFigure(quiet, "patch_map");
  const titles = async () => (await map.locator(".stage text").allTextContents()).filter((text) => text.includes("→"));
  expect(await titles()).toContain("base → strategic");
  const models = quiet.getByRole("group", { name: "Models shown" });
  await models.getByRole("button", { name: "strategic" }).click();
  await models.getByRole("button", { name: "base" }).click();
  await expect.poll(titles).not.toContain("base → strategic");
  expect(await titles()).toContain("hybrid → base");
});
