// What the reader has chosen; all views follow it.

export interface Prompt {
  id: string;
  scenario: string;
  text: string;
  answer_a: string;
  answer_b: string;
}

export interface Choice {
  /** Id of the chosen prompt; null for the averages over all. */
  prompt: string | null;
  models: ReadonlySet<string>;
}

export class State {
  private current: Choice;
  private readonly followers = new Set<(choice: Choice) => void>();

  constructor(
    readonly allModels: string[],
    readonly prompts: Prompt[],
  ) {
    this.current = { prompt: null, models: new Set(allModels) };
  }

  get choice(): Choice {
    return this.current;
  }

  follow(follower: (choice: Choice) => void): void {
    this.followers.add(follower);
  }

  choosePrompt(prompt: string | null): void {
    this.set({ ...this.current, prompt });
  }

  /** Shows a model or leaves it out; the last one stays. */
  toggleModel(name: string): void {
    const models = new Set(this.current.models);
    if (!models.delete(name)) {
      models.add(name);
    }
    if (models.size > 0) {
      this.set({ ...this.current, models });
    }
  }

  allModelsAgain(): void {
    this.set({ ...this.current, models: new Set(this.allModels) });
  }

  private set(choice: Choice): void {
    this.current = choice;
    for (const follower of this.followers) {
      follower(choice);
    }
  }
}
