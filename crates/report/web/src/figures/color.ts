// The colour maps of crates/report/src/color.rs, by the same formulas (Ottosson's Oklab, 2020); a browser test holds the
// two against each other.

const LIGHT = 0.97;
const DIVERGING = { lightness: 0.5, chroma: 0.125, below: 250, above: 38 };
const SEQUENTIAL = { lightness: 0.38, chroma: 0.11, hue: 255 };

/** Colour of `t` in [-1, 1]; 0 is almost white. */
export function diverging(t: number): string {
  const hue = t < 0 ? DIVERGING.below : DIVERGING.above;
  return ramp(Math.abs(t), DIVERGING.lightness, DIVERGING.chroma, hue);
}

/** Colour of `t` in [0, 1], light to dark. */
export function sequential(t: number): string {
  return ramp(t, SEQUENTIAL.lightness, SEQUENTIAL.chroma, SEQUENTIAL.hue);
}

function ramp(t: number, lightness: number, chroma: number, degrees: number): string {
  const share = Math.min(1, Math.max(0, t));
  const hue = (degrees * Math.PI) / 180;
  return oklab(LIGHT + (lightness - LIGHT) * share, chroma * share * Math.cos(hue), chroma * share * Math.sin(hue));
}

function oklab(lightness: number, a: number, b: number): string {
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return hex([
    encoded(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
    encoded(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
    encoded(-0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s),
  ]);
}

function encoded(linear: number): number {
  const clamped = Math.min(1, Math.max(0, linear));
  const value = clamped <= 0.0031308 ? 12.92 * clamped : 1.055 * clamped ** (1 / 2.4) - 0.055;
  return Math.round(value * 255);
}

function hex(channels: number[]): string {
  return `#${channels.map((c) => c.toString(16).padStart(2, "0")).join("").toUpperCase()}`;
}

function luminance(color: string): number {
  const channel = (at: number) => {
    const c = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
}

const DARK_TEXT = "#1F2328";
const LIGHT_TEXT = "#FFFFFF";

/** Black or white, whichever is easier to read on `fill`. */
export function textOn(fill: string): string {
  const contrast = (text: string) => {
    const [a, b] = [luminance(fill) + 0.05, luminance(text) + 0.05];
    return Math.max(a, b) / Math.min(a, b);
  };
  return contrast(DARK_TEXT) >= contrast(LIGHT_TEXT) ? DARK_TEXT : LIGHT_TEXT;
}
