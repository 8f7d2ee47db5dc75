// Questions to the server. A page has a name of its own, so that its new questions take the place of its old ones.

import type { About, Answer, Export, State, Sweep } from "./types";

/** The server refused, and said why. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

const page = crypto.getRandomValues(new Uint32Array(4)).join("-");

async function ask<T>(path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const post = { method: "POST", body: JSON.stringify(body) };
  const headers = { "Content-Type": "application/json", "X-Lorascope-Page": page };
  let response: Response;
  try {
    response = await fetch(path, { ...(body === undefined ? {} : post), headers, signal: signal ?? null });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    throw new Refused(0, "The server does not answer; is `lorascope explore` still running?");
  }
  const found = (await response.json()) as T & { error?: string };
  if (!response.ok) {
    throw new Refused(response.status, found.error ?? `The server answered ${response.status}.`);
  }
  return found;
}

export const about = () => ask<About>("api/about");
/** What is asked of a state in one request: an analysis, or a patch sweep. */
export type Part = { analyses: [string] } | { sweep: Sweep };

export const answer = (state: State, part: Part, signal: AbortSignal) => ask<Answer>("api/ask", { state, ...part }, signal);
export const exported = (state: State) => ask<Export>("api/export", state);
