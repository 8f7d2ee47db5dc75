// Builds the scripts of the report's page and of the explorer's; with --check, fails if a committed one differs.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";

const check = process.argv.includes("--check");
const LARGEST = 400_000;
const SCRIPTS = [
  { from: "src/page/main.ts", to: "crates/report/assets/report.js", of: "report page" },
  { from: "src/explore/main.ts", to: "crates/explore/assets/explore.js", of: "explorer" },
];

// Every page carries the bundle, so the bundle carries the licence of what is in it.
const license = await readFile(new URL("node_modules/d3-scale/LICENSE", import.meta.url), "utf8");

for (const { from, to, of } of SCRIPTS) {
  const banner = `/*! lorascope's ${of} (MIT or Apache-2.0), with parts of D3 (d3-array, d3-color, d3-format, d3-interpolate, d3-path,
d3-scale, d3-shape, d3-time, d3-time-format, internmap), under this licence:

${license.trim()}
*/`;
  const outfile = new URL(`../../../${to}`, import.meta.url).pathname;
  const result = await build({
    entryPoints: [new URL(from, import.meta.url).pathname],
    outfile,
    bundle: true,
    minify: true,
    write: !check,
    format: "iife",
    target: ["es2022"],
    charset: "ascii",
    legalComments: "inline",
    logLevel: "warning",
    banner: { js: banner },
  });
  const bytes = check ? result.outputFiles[0].contents : await readFile(outfile);
  if (bytes.length > LARGEST) {
    console.error(`${to} has ${bytes.length} bytes; it must stay below ${LARGEST}`);
    process.exit(1);
  }
  if (Buffer.from(bytes).includes("</script")) {
    console.error(`${to} contains \`</script\`; it could not be put into a page`);
    process.exit(1);
  }
  if (check) {
    const committed = await readFile(outfile);
    if (!committed.equals(Buffer.from(bytes))) {
      console.error(`${to} is not what its source gives; run \`npm run build\` in crates/report/web and commit it`);
      process.exit(1);
    }
  }
  console.log(`${to}: ${bytes.length} bytes`);
}
