// Browser tests of the report page: Debian's Chromium, pages that the program and the sample have written before.

import { existsSync } from "node:fs";
import { defineConfig } from "@playwright/test";

const chromium = process.env.CHROMIUM ?? ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find(existsSync);
if (!chromium) {
  throw new Error("no Chromium at /usr/bin/chromium; install Debian's package or name one in CHROMIUM");
}

export default defineConfig({
  testDir: "tests",
  timeout: 30_000,
  fullyParallel: true,
  workers: 2,
  // Under load a browser now and then fails to start.
  retries: 1,
  forbidOnly: true,
  reporter: [["list"]],
  snapshotPathTemplate: "{testDir}/screenshots/{arg}{ext}",
  // Glyphs and lines differ by a pixel's edge between versions of the browser; a missing curve is far more.
  expect: { toHaveScreenshot: { maxDiffPixelRatio: 0.02, threshold: 0.3, animations: "disabled" } },
  use: {
    browserName: "chromium",
    viewport: { width: 1100, height: 800 },
    launchOptions: { executablePath: chromium, args: ["--no-sandbox", "--font-render-hinting=none"] },
  },
});
