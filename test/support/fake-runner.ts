import { AppError, toErrorData, type ErrorCode } from "../../src/protocol/error.ts";
import type { ReadyMessage } from "../../src/protocol/ipc.ts";
import type { RunnerLink } from "../../src/worker/runners/runner-pool.ts";
import type { BatchEnd, BatchOptions, RunnerExit, RunnerState } from "../../src/worker/runners/runner-types.ts";
import { FakeBatch } from "./fake-batch.ts";

/** What the runner does with a batch by itself; without one it waits for the test. */
export type FakeWork = (batch: FakeBatch, runner: FakeRunner) => void | Promise<void>;

export interface FakeRunnerOptions {
  readonly work?: FakeWork;
  /** A cancelled job goes on as if it had not heard. */
  readonly isDeaf?: boolean;
  /** Not loaded until `loaded()` is called. */
  readonly isStarting?: boolean;
}

/** A runner without a process. Its state machine is the real one's, driven by the test. */
export class FakeRunner implements RunnerLink {
  readonly pid: number | undefined = undefined;
  readonly memory: { readonly rssBytes: number; readonly deviceBytes: number | null } = { rssBytes: 1, deviceBytes: null };
  readonly batches: FakeBatch[] = [];
  readonly cancelled: string[] = [];
  readonly killed: string[] = [];
  readonly #options: FakeRunnerOptions;
  readonly #ready = Promise.withResolvers<ReadyMessage>();
  readonly #exited = Promise.withResolvers<RunnerExit>();
  #batch: FakeBatch | null = null;
  state: RunnerState = "starting";
  /** How pings are answered. */
  onPing: () => Promise<number> = () => Promise.resolve(1);

  constructor(options: FakeRunnerOptions = {}) {
    this.#options = options;
    this.ready.catch(() => undefined);
    if (options.isStarting !== true) this.loaded();
  }

  get ready(): Promise<ReadyMessage> {
    return this.#ready.promise;
  }

  get exited(): Promise<RunnerExit> {
    return this.#exited.promise;
  }

  /** The batch that runs. */
  get batch(): FakeBatch {
    if (this.#batch === null) throw new Error("no batch runs on the fake runner");
    return this.#batch;
  }

  get isBusy(): boolean {
    return this.#batch !== null;
  }

  loaded(): void {
    if (this.state !== "starting") return;
    this.state = "ready";
    this.#ready.resolve({ type: "ready", loadMs: 1, providers: {}, rssBytes: 1, deviceBytes: null });
  }

  async runBatch(options: BatchOptions): Promise<BatchEnd> {
    if (this.state !== "ready") throw new AppError("INTERNAL", `the fake runner is ${this.state}`);
    this.state = "busy";
    const batch = new FakeBatch(options, (reusable) => this.#close(reusable, null));
    this.#batch = batch;
    this.batches.push(batch);
    void this.#options.work?.(batch, this);
    return batch.books.end;
  }

  cancel(id: string): boolean {
    if (this.#batch?.books.isOpen(id) !== true) return false;
    if (this.cancelled.includes(id)) return true;
    this.cancelled.push(id);
    if (this.#options.isDeaf === true) return true;
    const batch = this.#batch;
    void batch.fail("CANCELLED", id);
    if (batch.books.allReported) batch.end();
    return true;
  }

  ping(): Promise<number> {
    return this.onPing();
  }

  stop(): Promise<RunnerExit> {
    if (this.state === "stopped" || this.state === "draining") return this.exited;
    const idle = this.#batch === null;
    this.state = "draining";
    if (idle) this.#exit("stopped", "RUNNER_CRASHED");
    return this.exited;
  }

  kill(why: string): Promise<RunnerExit> {
    this.killed.push(why);
    this.#exit("killed", "RUNNER_CRASHED");
    return this.exited;
  }

  /** The process ends by itself, or for a missed deadline; jobs inside are unfinished. */
  crash(code: ErrorCode = "RUNNER_CRASHED"): void {
    this.#exit(code === "STAGE_TIMEOUT" ? "stage-timeout" : "crash", code);
  }

  #exit(reason: RunnerExit["reason"], code: ErrorCode): void {
    if (this.state === "stopped") return;
    this.state = "stopped";
    const error = toErrorData(new AppError(code, `the fake runner ended: ${reason}`));
    const exit = { reason, crashed: reason !== "killed" && reason !== "stopped", exitCode: null, signal: "SIGKILL", error };
    this.#close(false, exit);
    this.#ready.reject(new AppError(code, error.message));
    this.#exited.resolve(exit);
  }

  #close(reusable: boolean, exit: RunnerExit | null): void {
    const batch = this.#batch;
    this.#batch = null;
    if (this.state === "busy") this.state = "ready";
    batch?.books.finish({ reusable, exit, ...this.memory });
    if (this.state === "draining") this.#exit("stopped", "RUNNER_CRASHED");
  }
}
