/** Times the stages of a batch: each lasts until the next one begins. */
export class StageClock {
  readonly #observe: (stage: string, seconds: number) => void;
  #current: { readonly stage: string; readonly since: number } | null = null;

  constructor(observe: (stage: string, seconds: number) => void) {
    this.#observe = observe;
  }

  enter(stage: string): void {
    if (this.#current?.stage === stage) return;
    this.stop();
    this.#current = { stage, since: performance.now() };
  }

  stop(): void {
    if (this.#current !== null) this.#observe(this.#current.stage, (performance.now() - this.#current.since) / 1_000);
    this.#current = null;
  }
}
