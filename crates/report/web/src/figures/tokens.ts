// A prompt as its tokens, each on the colour of its value.

import { type Box, Canvas, shortened, textWidth } from "./canvas";
import { diverging, sequential, textOn } from "./color";
import { drawTitle, GAP, MARGIN } from "./frame";
import { type Drawn, type Look, type Mark, gridSteps } from "./marks";
import { exact } from "./numbers";
import type { Theme } from "./types";

export interface TokenRow {
  tokens: string[];
  /** Name of each token's span. */
  spans: string[];
  values: number[];
  /** Whether values may be below zero: a difference. */
  signed: boolean;
  /** What is shown: prompt, model, head. */
  about: string;
}

export function drawTokens(theme: Theme, title: string, row: TokenRow, look: Look): Drawn {
  const canvas = new Canvas(theme);
  const size = look.whole ? theme.tick_size : theme.label_size;
  let y = look.whole ? drawTitle(canvas, look.width, title) : 4;
  const most = row.values.reduce((largest, v) => Math.max(largest, Math.abs(v)), 0) || 1;
  const full = `full colour at ${row.signed ? "±" : ""}${exact(most)}; colours go by the root`;
  for (const [text, bold] of [[row.about, true], [full, false]] as const) {
    const shown = shortened(theme, text, look.width - MARGIN, theme.tick_size, bold);
    canvas.text(0, y + theme.tick_size, shown, { size: theme.tick_size, bold, paint: bold ? "ink" : "muted" });
    y += theme.tick_size * 1.5;
  }
  y += GAP * 0.5;
  const height = size * 1.7;
  const boxes: Box[] = [];
  let x = 0;
  const newLine = () => {
    x = 0;
    y += height + 3;
  };
  row.tokens.forEach((token, i) => {
    const text = shortened(theme, visible(token), look.width / 3, size);
    const width = textWidth(theme, text, size) + 4;
    if (x + width > look.width) {
      newLine();
    }
    const share = Math.sqrt(Math.abs(row.values[i] ?? 0) / most);
    const fill = row.signed ? diverging(Math.sign(row.values[i] ?? 0) * share) : sequential(share);
    const box = { x, y, width: width - 1, height };
    boxes.push(box);
    canvas.rect(box, { fixed: fill });
    canvas.text(x + 1.5, y + height * 0.7, text, { size, paint: { fixed: textOn(fill) } });
    x += width;
    if (token.endsWith("\n")) {
      newLine();
    }
  });
  const make = (_panel: number, _row: number, col: number): Mark | undefined => {
    const box = boxes[col];
    const token = row.tokens[col];
    return box && token !== undefined
      ? { panel: 0, row: 0, col, box, name: `token ${col}, ${JSON.stringify(token)} in ${row.spans[col]}`, value: exact(row.values[col]) }
      : undefined;
  };
  const steps = gridSteps(() => ({ rows: 1, cols: boxes.length }), 1, make);
  return {
    svg: canvas.finish(look.width, y + height + 6),
    marks: {
      at: (px, py) => {
        const found = boxes.findIndex((b) => px >= b.x && px <= b.x + b.width && py >= b.y && py <= b.y + b.height);
        return found < 0 ? undefined : make(0, 0, found);
      },
      step: (from, dx, dy) => (dy === 0 || !from ? steps(from, dx, 0) : nearestLine(boxes, from, dy, make)),
    },
  };
}

/** The token above or below. */
function nearestLine(
  boxes: Box[],
  from: Mark,
  dy: number,
  make: (panel: number, row: number, col: number) => Mark | undefined,
): Mark | undefined {
  const beyond = boxes.map((b, i) => ({ b, i })).filter(({ b }) => (b.y - from.box.y) * dy > 1);
  const nextY = dy > 0 ? Math.min(...beyond.map(({ b }) => b.y)) : Math.max(...beyond.map(({ b }) => b.y));
  const line = beyond.filter(({ b }) => b.y === nextY);
  line.sort((a, b) => Math.abs(a.b.x - from.box.x) - Math.abs(b.b.x - from.box.x));
  return line[0] ? make(0, 0, line[0].i) : from;
}

/** Spaces and line ends made visible where they are all that a token is. */
function visible(token: string): string {
  const plain = token.replaceAll("\n", "⏎");
  return plain.trim() === "" ? plain.replaceAll(" ", "·") : plain;
}
