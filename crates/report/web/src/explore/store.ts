// The state, what it was before, and its place in the address: a link to this page carries it.

import type { State } from "./types";

const MOST = 200;

export class Store {
  private readonly past: State[] = [];
  private readonly future: State[] = [];
  private readonly followers: (() => void)[] = [];

  constructor(public state: State) {
    this.show();
  }

  follow(follower: () => void): void {
    this.followers.push(follower);
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** Another state; what was before can be had again. */
  change(change: Partial<State>): void {
    const next = { ...this.state, ...change };
    if (JSON.stringify(next) === JSON.stringify(this.state)) {
      return;
    }
    this.past.push(this.state);
    if (this.past.length > MOST) {
      this.past.shift();
    }
    this.future.length = 0;
    this.become(next);
  }

  undo(): void {
    const before = this.past.pop();
    if (before) {
      this.future.push(this.state);
      this.become(before);
    }
  }

  redo(): void {
    const after = this.future.pop();
    if (after) {
      this.past.push(this.state);
      this.become(after);
    }
  }

  private become(state: State): void {
    this.state = state;
    this.show();
    for (const follower of this.followers) {
      follower();
    }
  }

  private show(): void {
    history.replaceState(null, "", `#${encodeURIComponent(JSON.stringify(this.state))}`);
  }
}

/** The state that the address carries. Whether it is one, the server says. */
export function linked(): State | undefined {
  const text = location.hash.slice(1);
  if (!text) {
    return undefined;
  }
  try {
    const state = JSON.parse(decodeURIComponent(text)) as State;
    return typeof state === "object" && state !== null && "prompt" in state
      ? { ...state, models: state.models ?? [], edits: state.edits ?? [] }
      : undefined;
  } catch {
    return undefined;
  }
}
