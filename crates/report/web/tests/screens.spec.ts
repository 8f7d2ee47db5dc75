// A few small pictures, to see that nothing falls apart; regenerate with `npx playwright test --update-snapshots`.

import { expect, liveFigure, SAMPLE, test } from "./pages";

const FIGURES = ["decisions", "lens-trajectories", "circuit-small", "ranked-panels"];

for (const [scheme, width] of [["light", 700], ["dark", 390]] as const) {
  test(`figures look as they did, ${scheme} at ${width}`, async ({ quiet }) => {
    await quiet.setViewportSize({ width, height: 600 });
    await quiet.emulateMedia({ colorScheme: scheme });
    await quiet.goto(SAMPLE);
    await quiet.evaluate(() => document.fonts.ready);
    for (const name of FIGURES) {
      const figure = await liveFigure(quiet, name);
      await expect(figure.locator(".drawing")).toHaveScreenshot(`${name}-${scheme}.png`);
    }
  });
}
