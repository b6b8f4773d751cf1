import type { ChildProcess } from "node:child_process";
import { inspect } from "node:util";
import { AppError, fromErrorData, isErrorCode, toErrorData } from "../../protocol/error.ts";
import { IPC_VERSION, parseRunnerMessage, type ReadyMessage, type RunnerMessage } from "../../protocol/ipc.ts";
import { RunnerBatch } from "./runner-batch.ts";
import { RunnerCancels } from "./runner-cancels.ts";
import { RunnerChild, type ChildEnd } from "./runner-child.ts";
import { Deadline, realSchedule } from "./runner-deadline.ts";
import { forkRunner } from "./runner-fork.ts";
import { RunnerPings } from "./runner-pings.ts";
import { explainDeviceError, RunnerRecorder } from "./runner-recorder.ts";
import type { BatchEnd, BatchOptions, RunnerExit, RunnerExitReason, RunnerOptions, RunnerState, Schedule } from "./runner-types.ts";

/** How long a runner that reported `fatal` may take to exit by itself. */
const FATAL_WAIT_MS = 2_000;

/** Starts the child and returns at once; `ready` tells how the load went. @throws AppError RUNNER_CRASHED when no process can be made. */
export async function startRunner(options: RunnerOptions): Promise<RunnerProcess> {
  return new RunnerProcess(options, await forkRunner({ ...options, purpose: `model ${options.manifest.slug}` }));
}

/**
 * The daemon's end of one runner: one child process that holds one loaded model on one device.
 *
 *   starting -- ready --> ready -- runBatch --> busy
 *      |                   | ^--- batch-done ---' |
 *      |                   '------ stop ----------+--> draining
 *      '---------- end of the process, from anywhere -------> stopped
 *
 * Only `#to` writes the state. A runner that missed a deadline, sent nonsense or ignored a cancel is killed and never used again.
 * All ends of the process pass `#onExit`, which settles whatever still waits: `ready`, the batch, the pings, `exited`.
 */
export class RunnerProcess implements AsyncDisposable {
  /** Resolves when the model is loaded. Rejects with LOAD_TIMEOUT, IPC_MISMATCH, RUNNER_CRASHED or what the load failed with. */
  readonly ready: Promise<ReadyMessage>;
  /** Resolves once the process is gone; never rejects. */
  readonly exited: Promise<RunnerExit>;
  readonly #options: RunnerOptions;
  readonly #child: RunnerChild;
  readonly #schedule: Schedule;
  readonly #recorder: RunnerRecorder;
  readonly #readyGate = Promise.withResolvers<ReadyMessage>();
  readonly #exitGate = Promise.withResolvers<RunnerExit>();
  readonly #loadDeadline: Deadline;
  readonly #stageDeadline: Deadline;
  readonly #pings: RunnerPings;
  readonly #cancels: RunnerCancels;
  #state: RunnerState = "starting";
  #batch: RunnerBatch | null = null;
  /** Why we end the process, once we do. The first reason stays. */
  #ending: { readonly reason: RunnerExitReason; readonly error: AppError } | null = null;

  constructor(options: RunnerOptions, child: ChildProcess) {
    this.#options = options;
    this.#schedule = options.schedule ?? realSchedule;
    this.#pings = new RunnerPings(this.#schedule);
    const graceMs = options.cancelGraceMs;
    this.#cancels = new RunnerCancels({ graceMs, schedule: this.#schedule, onMissed: (id) => this.#ignored(id) });
    this.#recorder = new RunnerRecorder({ model: options.manifest.slug, device: options.device.id });
    this.#loadDeadline = new Deadline(this.#schedule, (what, limitMs) => this.#missed("load-timeout", what, limitMs));
    this.#stageDeadline = new Deadline(this.#schedule, (what, limitMs) =>
      this.#missed(this.#state === "starting" ? "load-timeout" : "stage-timeout", what, limitMs),
    );
    this.ready = this.#readyGate.promise;
    this.exited = this.#exitGate.promise;
    // Whoever does not wait for the load learns of its failure through `exited`.
    this.ready.catch(() => undefined);
    this.#loadDeadline.arm("load", options.manifest.deadlines.loadMs);
    this.#child = new RunnerChild(child, {
      schedule: this.#schedule,
      onMessage: (value) => this.#onMessage(value),
      onStderr: (stderr) => this.#recorder.watch(stderr, options.log, child.pid),
      onEnd: (end) => this.#onExit(end),
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get state(): RunnerState {
    return this.#state;
  }

  /** Bytes as last reported; see ReadyMessage. */
  get memory(): { readonly rssBytes: number; readonly deviceBytes: number | null } {
    return { rssBytes: this.#recorder.rssBytes, deviceBytes: this.#recorder.deviceBytes };
  }

  /**
   * Runs a batch on a runner that is `ready`. Never rejects for what happens in the child: every job gets an outcome.
   * @throws AppError INTERNAL when the runner is not ready (a bug of the caller)
   */
  async runBatch(options: BatchOptions): Promise<BatchEnd> {
    if (this.#state !== "ready")
      throw new AppError("INTERNAL", `runner ${this.pid} is ${this.#state}, a batch needs it ready; this is a bug`);
    const batch = new RunnerBatch(options);
    this.#batch = batch;
    this.#to("busy");
    this.#recorder.enter("dispatch");
    this.#armStage("dispatch");
    this.#cancels.work(options.jobs.map(({ id }) => id));
    this.#child.send({ type: "run", batch: options.batch, jobs: options.jobs });
    return batch.end;
  }

  /** Ends the work for a job; kills the process if that goes on beyond the grace (RunnerCancels). False when it is not running here. */
  cancel(id: string): boolean {
    if (this.#batch?.isOpen(id) !== true) return false;
    if (this.#cancels.has(id)) return true;
    this.#child.send({ type: "cancel", id });
    this.#cancels.begin(id);
    return true;
  }

  /** A real operation on the device; resolves to its milliseconds. Kills the runner when no answer comes in time. @throws AppError */
  ping(options: { readonly timeoutMs: number }): Promise<number> {
    if (this.#state !== "ready")
      return Promise.reject(new AppError("INTERNAL", `runner ${this.pid} is ${this.#state}, a ping needs it ready; this is a bug`));
    const { nonce, answer } = this.#pings.begin(options.timeoutMs, () => this.#missed("stage-timeout", "ping", options.timeoutMs));
    this.#child.send({ type: "ping", nonce });
    return answer;
  }

  /** Lets a running batch end, releases the model and exits; killed after the grace. */
  stop(options: { readonly graceMs: number }): Promise<RunnerExit> {
    if (this.#state === "stopped" || this.#state === "draining") return this.exited;
    this.#to("draining");
    this.#loadDeadline.clear();
    this.#child.send({ type: "stop" });
    const stopTimer = this.#schedule(
      () => this.#end("stopped", new AppError("RUNNER_CRASHED", `the runner was killed: it had not stopped after ${options.graceMs} ms`)),
      options.graceMs,
    );
    void this.exited.then(stopTimer);
    return this.exited;
  }

  /** Ends the process now. Jobs inside become `unfinished` and count against nobody. */
  kill(why: string): Promise<RunnerExit> {
    this.#end("killed", new AppError("RUNNER_CRASHED", `the runner was killed: ${why}`));
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill("no longer needed");
  }

  #to(state: RunnerState): void {
    this.#state = state;
  }

  #onMessage(value: unknown): void {
    const message = parseRunnerMessage(value);
    if (message === null) {
      const excerpt = inspect(value, { depth: 2, breakLength: Infinity }).slice(0, 300);
      this.#end("protocol", new AppError("RUNNER_CRASHED", `the runner sent what is no message of IPC version ${IPC_VERSION}: ${excerpt}`));
      return;
    }
    this.#handle(message);
  }

  #handle(message: RunnerMessage): void {
    switch (message.type) {
      case "hello":
        return this.#onHello(message.version);
      case "stage":
        this.#recorder.enter(message.stage);
        this.#armStage(message.stage);
        if (message.ids !== undefined) this.#cancels.work(message.ids.filter((id) => this.#batch?.isOpen(id) === true));
        if (this.#batch === null) this.#options.onStage?.(message.stage);
        else this.#batch.options.onEvent?.(message);
        return;
      case "ready":
        return this.#onReady(message);
      case "fatal":
        return this.#onFatal(message);
      case "progress":
        this.#recorder.stage = message.stage;
        this.#recorder.step = message.step;
        this.#armStage(message.stage);
        this.#cancels.stepped();
        return this.#batch?.options.onEvent?.(message);
      case "preview":
        return this.#batch?.options.onEvent?.(message);
      case "job-done":
      case "job-failed":
        return this.#onJobEnd(message);
      case "batch-done":
        return this.#onBatchDone(message);
      case "pong":
        return this.#pings.answered(message.nonce, message.opMs);
    }
  }

  #onHello(version: number): void {
    if (version !== IPC_VERSION) {
      const text = `the runner speaks IPC version ${version}, this daemon ${IPC_VERSION}: files of two versions are mixed, install dryapi-worker again and restart`;
      this.#end("protocol", new AppError("IPC_MISMATCH", text));
      return;
    }
    const { manifest, modelDir, device, previews, embeddingCacheBytes, budgetBytes, runtime, epLibraries, placement } = this.#options;
    const { kind, index, threads } = device;
    this.#child.send({
      type: "load",
      manifest,
      modelDir,
      device: { kind, index, threads },
      previews,
      embeddingCacheBytes,
      ...(budgetBytes !== undefined && { budgetBytes }),
      ...(runtime !== undefined && { runtime }),
      ...(epLibraries !== undefined && { epLibraries }),
      ...(placement !== undefined && { placement }),
    });
  }

  #onReady(message: ReadyMessage): void {
    if (this.#ending !== null) return;
    this.#loadDeadline.clear();
    this.#stageDeadline.clear();
    this.#recorder.rssBytes = message.rssBytes;
    this.#recorder.deviceBytes = message.deviceBytes;
    this.#recorder.enter("idle");
    if (this.#state === "starting") this.#to("ready");
    this.#readyGate.resolve(message);
  }

  #onFatal(message: Extract<RunnerMessage, { type: "fatal" }>): void {
    const code = isErrorCode(message.error.code) ? message.error.code : "INTERNAL";
    this.#ending ??= { reason: "fatal", error: fromErrorData({ ...message.error, code }) };
    // It exits by itself, with the rest of its stderr written; not for ever, though.
    const stopTimer = this.#schedule(() => this.#killChild(), FATAL_WAIT_MS);
    void this.exited.then(stopTimer);
  }

  #onJobEnd(message: Extract<RunnerMessage, { type: "job-done" | "job-failed" }>): void {
    const batch = this.#batch;
    const known = batch?.report(message, () => {
      if (message.type === "job-done") this.#child.send({ type: "ack", id: message.id });
      // From here on the runner owes us `batch-done`.
      if (batch === this.#batch && batch.allReported && !batch.recording) this.#armStage("finish");
    });
    if (known !== true) {
      this.#end("protocol", new AppError("RUNNER_CRASHED", `the runner reported the end of job ${message.id}, which is not running here`));
      return;
    }
    this.#cancels.ended(message.id);
    // While ends are being recorded and no job is left, the runner waits for our ack: that is no hang of its own.
    if (batch?.allReported === true) this.#stageDeadline.clear();
    else this.#armStage(this.#recorder.stage ?? "run");
  }

  #onBatchDone(message: Extract<RunnerMessage, { type: "batch-done" }>): void {
    const batch = this.#batch;
    if (batch === null || batch.options.batch !== message.batch) {
      this.#end("protocol", new AppError("RUNNER_CRASHED", `the runner ended batch ${message.batch}, which is not running here`));
      return;
    }
    this.#recorder.rssBytes = message.rssBytes;
    this.#recorder.deviceBytes = message.deviceBytes;
    this.#closeBatch(message.reusable && this.#ending === null, null);
    this.#recorder.enter("idle");
    // One that is being killed is not offered again.
    if (this.#state === "busy" && this.#ending === null) this.#to("ready");
  }

  #armStage(stage: string): void {
    // A word too late must not put an idle runner under a deadline.
    if (this.#ending !== null || (this.#batch === null && this.#state !== "starting")) return;
    const { stageMs, defaultMs, loadMs } = this.#options.manifest.deadlines;
    // A graph that is opened again within a batch has the time of a load.
    const named = stageMs[stage] ?? (this.#batch !== null && stage.startsWith("load:") ? loadMs : undefined);
    // A load's stages share the load's own limit unless they have one each.
    if (named === undefined && this.#state === "starting") this.#stageDeadline.clear();
    else this.#stageDeadline.arm(stage, named ?? defaultMs);
  }

  #ignored(id: string): void {
    const text = `the runner was killed because job ${id} went on ${this.#options.cancelGraceMs} ms after its cancel`;
    this.#end("cancel", new AppError("RUNNER_CRASHED", text));
  }

  #missed(reason: "load-timeout" | "stage-timeout", what: string, limitMs: number): void {
    const stage = this.#recorder.stage;
    const where = what === "load" && stage !== undefined ? ` (in stage ${stage})` : "";
    const text = `${what} of model ${this.#options.manifest.slug} on ${this.#options.device.id} gave no sign of life for ${limitMs} ms${where}; the runner was killed`;
    this.#end(reason, new AppError(reason === "load-timeout" ? "LOAD_TIMEOUT" : "STAGE_TIMEOUT", text));
  }

  /** Kills the process for a reason; the first one counts. */
  #end(reason: RunnerExitReason, error: AppError): void {
    this.#ending ??= { reason, error };
    this.#killChild();
  }

  #killChild(): void {
    this.#loadDeadline.clear();
    this.#stageDeadline.clear();
    this.#child.kill();
  }

  #closeBatch(reusable: boolean, exit: RunnerExit | null): void {
    const batch = this.#batch;
    this.#batch = null;
    this.#stageDeadline.clear();
    this.#cancels.clear();
    batch?.finish({ reusable, exit, ...this.memory });
  }

  #onExit(end: ChildEnd): void {
    const { exitCode, signal } = end;
    if (end.lingers === true)
      this.#options.log.warn({ pid: this.pid }, "a killed runner is still there, probably inside a driver call; it is given up");
    const { reason, error: why } = this.#ending ?? this.#unasked(end);
    this.#to("stopped");
    const told = explainDeviceError(why, this.#recorder.stderr);
    const error = new AppError(told.code, told.message, { cause: why, blackBox: this.#recorder.blackBox(exitCode, signal) });
    const crashed = reason !== "cancel" && reason !== "killed" && reason !== "stopped";
    const exit: RunnerExit = { reason, crashed, exitCode, signal, error: toErrorData(error) };
    this.#loadDeadline.clear();
    this.#closeBatch(false, exit);
    this.#readyGate.reject(error);
    this.#pings.failAll(error);
    this.#exitGate.resolve(exit);
  }

  /** The end of a process that nobody killed: the answer to `stop`, or a crash (also with exit code 0). */
  #unasked({ exitCode, signal, cause }: ChildEnd): { readonly reason: RunnerExitReason; readonly error: AppError } {
    const how = cause === undefined ? (signal ?? `exit code ${exitCode}`) : cause.message;
    if (this.#state === "draining" && this.#batch === null && signal === null) {
      return { reason: "stopped", error: new AppError("RUNNER_CRASHED", `the runner was stopped (${how})`) };
    }
    const stage = this.#recorder.stage ?? "start";
    const text = `the runner of model ${this.#options.manifest.slug} ended with ${how} in stage ${stage}`;
    return { reason: "crash", error: new AppError("RUNNER_CRASHED", text, { cause }) };
  }
}
