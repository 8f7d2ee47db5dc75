// A few small pictures, to see that nothing falls apart; made anew with `scripts/test_web --update-snapshots`.

import { expect, liveFigure, SAMPLE, test } from "./pages";

const SHOWN = [
  { scheme: "light", width: 700, figures: ["decisions", "lens-trajectories", "circuit-small"] },
  { scheme: "dark", width: 390, figures: ["decisions", "attention-rows", "delta-bars"] },
] as const;

for (const { scheme, width, figures } of SHOWN) {
  test(`figures look as they did, ${scheme} at ${width}`, async ({ quiet }) => {
    await quiet.setViewportSize({ width, height: 900 });
    await quiet.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await quiet.goto(SAMPLE);
    await quiet.evaluate(() => document.fonts.ready);
    for (const name of figures) {
      const figure = await liveFigure(quiet, name);
      await expect(figure.locator(".drawing")).toHaveScreenshot(`${name}-${scheme}.png`);
    }
  });
}
