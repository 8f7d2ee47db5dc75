// A figure as the program writes it: the JSON of `Figure` in crates/report/src/figure.rs, and nothing else.

export type Value = number | null;
export type Interval = [number, number] | null;

export interface Figure {
  name: string;
  title: string;
  caption: string;
  by_prompt?: ByPrompt;
  kind: Kind;
}

export interface ByPrompt {
  prompts: string[];
  /** Base64 of zlib of little-endian f32, [prompt][panel][row][column]; NaN where a prompt has no part in a cell. */
  values: string;
}

export type Kind =
  | { lines: Lines }
  | { heatmap: Heatmap }
  | { bars: Bars }
  | { horizontal_bars: HorizontalBars }
  | { graph: Graph }
  | { attention: AttentionRows };

export type ColorKey = "base" | { model: number } | { reference: number };

export interface Series {
  name: string;
  color: ColorKey;
  x: number[];
  y: Value[];
  lo: Value[];
  hi: Value[];
}

export interface LinePanel {
  title: string;
  series: Series[];
}

export interface Lines {
  x_label: string;
  y_label: string;
  panels: LinePanel[];
  zero_line: boolean;
}

export interface HeatmapPanel {
  title: string;
  rows: string[];
  cols: string[];
  values: Value[][];
  intervals: Interval[][];
}

export type HeatmapScale =
  | { diverging: { center: number; reach: number | null } }
  | { sequential: { min: number; max: number } };

export interface Heatmap {
  row_label: string;
  col_label: string;
  panels: HeatmapPanel[];
  scale: HeatmapScale;
  unit: string;
  annotate: boolean;
}

export interface BarSeries {
  name: string;
  color: ColorKey;
  values: Value[];
  intervals: Interval[];
}

export interface BarPanel {
  title: string;
  groups: string[];
  series: BarSeries[];
}

export interface Bars {
  y_label: string;
  panels: BarPanel[];
}

export interface HorizontalBars {
  x_label: string;
  panels: BarPanel[];
}

export type Change = "shared" | "gained" | "lost" | "reweighted";

export interface GraphNode {
  id: string;
  place: "embed" | "logits" | { attention: number } | { mlp: number };
  weight: Value;
  interval: Interval;
  member: boolean;
  change: Change | null;
}

export interface GraphEdge {
  from: string;
  to: string;
  input: "query" | "key" | "value" | null;
  weight: Value;
  interval: Interval;
  change: Change | null;
}

export interface GraphPanel {
  title: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
}

export interface Graph {
  panels: GraphPanel[];
  node_unit: string;
  node_reach: number | null;
  edge_unit: string;
  edge_reach: number | null;
}

export interface AttentionPrompt {
  id: string;
  tokens: string[];
  spans: string[];
  span_of: number[];
}

export interface AttentionRows {
  models: string[];
  n_layers: number;
  n_heads: number;
  prompts: AttentionPrompt[];
  /** Base64 of zlib of a byte for each weight, [prompt][model][layer][head][token]; a weight is (byte / 255)². */
  weights: string;
}

/** Colours and sizes, from the one theme of the program. */
export interface Theme {
  family: string;
  width: number;
  title_size: number;
  label_size: number;
  tick_size: number;
  ink: string;
  muted: string;
  grid: string;
  paper: string;
  base: string;
  models: string[];
}
