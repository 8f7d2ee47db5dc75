// Builds the page's script into ../assets/report.js; with --check, fails if the committed one differs.
import { build } from "esbuild";
import { readFile } from "node:fs/promises";

const outfile = new URL("../assets/report.js", import.meta.url).pathname;
const check = process.argv.includes("--check");
const LARGEST = 400_000;

const result = await build({
  entryPoints: [new URL("src/page/main.ts", import.meta.url).pathname],
  outfile,
  bundle: true,
  minify: true,
  write: !check,
  format: "iife",
  target: ["es2022"],
  charset: "ascii",
  legalComments: "inline",
  logLevel: "warning",
});

const bytes = check
  ? result.outputFiles[0].contents
  : await readFile(outfile);
if (bytes.length > LARGEST) {
  console.error(`report.js has ${bytes.length} bytes; it must stay below ${LARGEST}`);
  process.exit(1);
}
if (Buffer.from(bytes).includes("</script")) {
  console.error("report.js contains `</script`; it could not be put into a page");
  process.exit(1);
}
if (check) {
  const committed = await readFile(outfile);
  if (!committed.equals(Buffer.from(bytes))) {
    console.error("crates/report/assets/report.js is not what its source gives; run `npm run build` in crates/report/web and commit it");
    process.exit(1);
  }
}
console.log(`report.js: ${bytes.length} bytes`);
