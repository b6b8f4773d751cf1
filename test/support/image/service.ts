import type { ChildProcess } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";

/** Long enough for the slowest machine; what is waited for and never comes ends the proof with what was said. */
const WAIT_MS = 300_000;

/** A started container's first process. */
export class Service {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #said: string[] = [];
  readonly #exit: Promise<number | null>;
  #wake: () => void = () => undefined;

  constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
    this.#exit = exitOf(child);
    for (const stream of [child.stdout, child.stderr])
      if (stream !== null)
        createInterface({ input: stream }).on("line", (line) => {
          this.#said.push(line);
          this.#wake();
        });
    void this.#exit.then(() => this.#wake());
  }

  /** All that it printed. */
  get said(): string {
    return this.#said.join("\n");
  }

  /** Resolves once it prints a line with this text. @throws Error with its last words when it ends or says nothing of the kind */
  async says(text: string): Promise<void> {
    let ended = false;
    void this.#exit.then(() => (ended = true));
    const limit = AbortSignal.timeout(WAIT_MS);
    limit.addEventListener("abort", () => this.#wake());
    while (!this.#said.some((line) => line.includes(text))) {
      if (ended || limit.aborted)
        throw new Error(`${this.#name} ${ended ? "ended" : "goes on"} without saying "${text}": ${this.said.slice(-3_000)}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** SIGTERM to its first process; resolves to the exit code. */
  async stop(): Promise<number | null> {
    // The child here is unshare, which passes no signal on; the only process that it starts is the first one there.
    const { pid } = this.#child;
    const first = Number((await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim());
    process.kill(first, "SIGTERM");
    return this.#exit;
  }

  exited(): Promise<number | null> {
    return this.#exit;
  }
}

/** Exit code, or null for a death by signal and for a program that could not be started. */
export function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve(code));
    child.once("error", () => resolve(null));
  });
}
