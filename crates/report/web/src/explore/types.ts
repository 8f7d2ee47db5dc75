// What the explorer's server takes and gives: the JSON of crates/explore, and nothing else.

import type { Figure, Theme } from "../figures";

export type Position = "all" | "decision";

export interface Zero {
  kind: "zero";
  unit: string;
  models: string[];
  position: Position;
}

export interface Mean {
  kind: "mean";
  unit: string;
  models: string[];
  position: Position;
}

export interface Patch {
  kind: "patch";
  unit: string;
  source: string;
  models: string[];
  position: Position;
}

export interface Steer {
  kind: "steer";
  layer: number;
  plus: string;
  minus: string;
  strength: number;
  models: string[];
  position: Position;
}

export interface Mute {
  kind: "mute";
  models: string[];
  layers: number[];
  modules: string[];
}

export type Edit = Zero | Mean | Patch | Steer | Mute;

export interface Turn {
  role: string;
  content: string;
}

export type Asked = { id: string } | { text: string } | { messages: Turn[] };

export interface State {
  models: string[];
  prompt: Asked;
  answers?: [string, string];
  edits: Edit[];
}

export interface KnownPrompt {
  id: string;
  scenario: string | null;
  is_chat: boolean;
  messages: Turn[];
  answers: [string, string] | null;
}

export interface About {
  version: string;
  family: string;
  layers: number;
  heads: number;
  models: { name: string; blocks: [number, string][] }[];
  prompts: KnownPrompt[];
  n_prompts: number;
  answers: [string, string] | null;
  meanings: [string, string];
  edits: Edit[];
  analyses: string[];
  theme: Theme;
}

export type Table = Record<string, (string | number | boolean | null)[]>;

export interface Section {
  id: string;
  title: string;
  question: string;
  paragraphs: string[];
  figures: Figure[];
  notes: string[];
}

export interface Found {
  section: Section;
  tables: Record<string, Table>;
}

export interface Answer {
  prompt: { tokens: string[]; decision_position: number; answers: [string, string]; chat_template: boolean };
  models: string[];
  meanings: [string, string];
  found: Record<string, Found>;
  tokens_run: number;
  seconds: number;
}

/** Every head and MLP of one model put into another, one at a time. */
export interface Sweep {
  source: string;
  target: string;
}

export interface Export {
  study_name: string;
  study: string;
  prompts_name: string;
  prompts: string;
}
