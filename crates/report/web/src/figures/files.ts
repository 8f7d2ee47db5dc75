// A drawing as a file: SVG, or PNG with 300 dots to the inch, with its font inside.

const DOTS_PER_INCH = 300;
const PIXELS_PER_INCH = 96;
const LARGEST_SIDE = 16_000;

/** The drawing as a complete SVG file. `fontFaces`: rules that carry the font. */
export function svgFile(svg: SVGSVGElement, title: string, fontFaces: string): string {
  const copy = svg.cloneNode(true) as SVGSVGElement;
  copy.removeAttribute("aria-hidden");
  const name = document.createElementNS(copy.namespaceURI, "title");
  name.textContent = title;
  copy.prepend(name);
  if (fontFaces) {
    const style = document.createElementNS(copy.namespaceURI, "style");
    style.textContent = fontFaces;
    copy.prepend(style);
  }
  return new XMLSerializer().serializeToString(copy);
}

/** An SVG file as a PNG file. */
export async function pngFile(svg: string, width: number, height: number): Promise<Blob> {
  const scale = DOTS_PER_INCH / PIXELS_PER_INCH;
  const fit = Math.min(1, LARGEST_SIDE / (Math.max(width, height) * scale));
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * scale * fit);
  canvas.height = Math.ceil(height * scale * fit);
  const context = canvas.getContext("2d");
  if (!context) {
    throw new Error("this browser gives no canvas to draw on");
  }
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (!blob) {
    throw new Error("this browser could not make a PNG of that size");
  }
  return withResolution(blob, DOTS_PER_INCH * fit);
}

/** The PNG with a chunk that says how many dots it has to the inch. */
async function withResolution(png: Blob, dotsPerInch: number): Promise<Blob> {
  const bytes = new Uint8Array(await png.arrayBuffer());
  // Signature (8) and header chunk (25) come first in every PNG; the new chunk goes after them.
  const head = 33;
  const chunk = new DataView(new ArrayBuffer(21));
  const perMetre = Math.round(dotsPerInch / 0.0254);
  chunk.setUint32(0, 9);
  [..."pHYs"].forEach((c, i) => chunk.setUint8(4 + i, c.charCodeAt(0)));
  chunk.setUint32(8, perMetre);
  chunk.setUint32(12, perMetre);
  chunk.setUint8(16, 1);
  chunk.setUint32(17, crc32(new Uint8Array(chunk.buffer, 4, 13)));
  return new Blob([bytes.slice(0, head), chunk.buffer, bytes.slice(head)], { type: "image/png" });
}

function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) {
      crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    }
  }
  return (crc ^ 0xffffffff) >>> 0;
}

/** Rules of the page's own style sheets that carry fonts, so that files look as the page does. */
export function fontFaces(): string {
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  return rules.filter((rule) => rule instanceof CSSFontFaceRule).map((rule) => rule.cssText).join("\n");
}

/** Hands a file to the reader. */
export function save(name: string, content: Blob): void {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(content);
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
