import type { ChildProcess } from "node:child_process";
import type { Readable } from "node:stream";
import type { RunnerCommand } from "../../protocol/ipc.ts";
import type { Schedule } from "./runner-types.ts";

/** How long the ends of a dead child's pipes are waited for: a grandchild may hold its stderr open. */
const DRAIN_MS = 1_000;
/** How long a killed process may take to go: one inside a driver call can be unkillable for a while. */
const KILL_WAIT_MS = 15_000;

export interface ChildEnd {
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Set when the process never came to be. */
  readonly cause?: Error;
  /** True when it was killed and is still there: given up. */
  readonly lingers?: boolean;
}

export interface RunnerChildOptions {
  readonly schedule: Schedule;
  readonly onMessage: (value: unknown) => void;
  /** Reads the child's stderr; settles when it has ended. */
  readonly onStderr: (stderr: Readable) => Promise<void>;
  /** Called once, after everything that the child sent and wrote has been delivered. */
  readonly onEnd: (end: ChildEnd) => void;
}

/** The process behind a runner: messages to and from it, and exactly one end. */
export class RunnerChild {
  readonly pid: number | undefined;
  readonly #child: ChildProcess;
  readonly #options: RunnerChildOptions;
  readonly #timers = new Set<() => void>();
  #killed = false;
  #ended = false;

  constructor(child: ChildProcess, options: RunnerChildOptions) {
    this.#child = child;
    this.#options = options;
    this.pid = child.pid;
    const drained = Promise.all([
      child.stderr === null ? null : options.onStderr(child.stderr),
      new Promise((resolve) => child.once("disconnect", resolve)),
    ]);
    child.on("message", (value) => {
      if (!this.#ended) options.onMessage(value);
    });
    child.once("error", (cause) => {
      // Only a process that never came to be has no `exit` event to follow.
      if (child.pid === undefined) this.#end({ exitCode: null, signal: null, cause });
    });
    child.once("exit", (exitCode, signal) => {
      // What it sent before it died is still in the pipes: its last `job-done` counts.
      this.#after(DRAIN_MS, () => this.#end({ exitCode, signal }));
      void drained.then(() => this.#end({ exitCode, signal }));
    });
  }

  send(command: RunnerCommand): void {
    // A closed channel is no news: the end follows and settles everything.
    if (this.#child.connected) this.#child.send(command, () => undefined);
  }

  /** SIGKILL: a process inside native code hears nothing else. */
  kill(): void {
    if (this.#killed || this.#ended) return;
    this.#killed = true;
    this.#child.kill("SIGKILL");
    this.#after(KILL_WAIT_MS, () => this.#end({ exitCode: null, signal: null, lingers: true }));
  }

  #after(delayMs: number, run: () => void): void {
    this.#timers.add(this.#options.schedule(run, delayMs));
  }

  #end(end: ChildEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const stopTimer of this.#timers) stopTimer();
    this.#options.onEnd(end);
  }
}
