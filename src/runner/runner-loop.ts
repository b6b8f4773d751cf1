import type { JobEnd, Pipeline } from "../pipelines/pipeline.ts";
import { diskFull } from "../protocol/disk-full.ts";
import { isDeviceFailure } from "../pipelines/device-failure.ts";
import type { Backend } from "../pipelines/backend.ts";
import { AppError, toErrorData, type ErrorData } from "../protocol/error.ts";
import type { DeviceSpec, LoadCommand, RunnerCommand, RunnerJob, RunnerMessage, RuntimeFacts } from "../protocol/ipc.ts";
import { DeviceMemory } from "./device-memory.ts";
import { fitMessage } from "./fit-message.ts";
import type { LoadedModel } from "./load-model.ts";
import { MemoryPeak, type HeldMemory } from "./memory-peak.ts";
import { BatchContext } from "./run-context.ts";

/** The daemon acks as soon as an end is on its disk; a lost ack must not keep the runner for ever. */
const ACK_WAIT_MS = 30_000;

export interface LoopOptions {
  readonly send: (message: RunnerMessage) => void;
  readonly load: (command: LoadCommand, stage: (name: string) => void) => Promise<LoadedModel>;
  /** Proves the device by a real operation; resolves to the nodes per execution provider. */
  readonly prove: (device: DeviceSpec) => Promise<LoadedModel["providers"]>;
  /** Which onnxruntime this process has loaded; null without one. */
  readonly runtime?: () => Promise<RuntimeFacts | null>;
  /** Ends the process once what was sent is out. */
  readonly exit: (code: number) => void;
  /** A line for the operator. */
  readonly say: (line: string) => void;
  readonly ackWaitMs?: number;
}

/**
 * The runner's command loop. load, prove, run, ping and stop are done one after the other; cancel and ack take effect at once, whatever
 * runs: loads and runs do not block this thread. Where onnxruntime-node runs the graphs they do, and a cancel is read before the next run.
 */
export class RunnerLoop {
  readonly #options: LoopOptions;
  readonly #cancelled = new Set<string>();
  readonly #acks = new Map<string, () => void>();
  #last: Promise<void> = Promise.resolve();
  #pipeline: Pipeline | null = null;
  #guard: Backend["guard"] = () => undefined;
  /** Of the batch under way, or of the last one. */
  #context: BatchContext | null = null;
  #memory: MemoryPeak | null = null;
  #previews = false;

  constructor(options: LoopOptions) {
    this.#options = options;
  }

  handle(command: RunnerCommand): void {
    switch (command.type) {
      case "cancel":
        this.#cancelled.add(command.id);
        this.#context?.review();
        return;
      case "ack":
        this.#acks.get(command.id)?.();
        return;
      case "load":
        return this.#next(() => this.#load(command));
      case "prove":
        return this.#next(() => this.#prove(command.device));
      case "run":
        return this.#next(() => this.#run(command.batch, command.jobs));
      case "ping":
        return this.#next(() => this.#ping(command.nonce));
      case "stop":
        return this.#next(() => this.#stop());
    }
  }

  #next(work: () => Promise<void>): void {
    this.#last = this.#last.then(work).catch((thrown: unknown) => {
      this.#send({ type: "fatal", error: toErrorData(diskFull(thrown) ?? thrown) });
      this.#options.exit(1);
    });
  }

  async #load(command: LoadCommand): Promise<void> {
    const startedAt = performance.now();
    const tell = (stage: string): void => this.#send({ type: "stage", stage });
    const { pipeline, guard, ...loaded } = await this.#options.load(command, tell);
    const loadMs = performance.now() - startedAt;
    this.#pipeline = pipeline;
    this.#guard = guard;
    this.#previews = command.previews;
    this.#memory = new MemoryPeak(new DeviceMemory(command.device.kind), command.budgetBytes !== undefined);
    const facts = { ...(await this.#readRuntime()), ...(await this.#readMemory()) };
    this.#send({ type: "ready", loadMs, ...loaded, ...facts });
  }

  async #prove(device: DeviceSpec): Promise<void> {
    const startedAt = performance.now();
    const providers = await this.#options.prove(device);
    const loadMs = performance.now() - startedAt;
    this.#send({ type: "ready", loadMs, providers, ...(await this.#readRuntime()), ...(await this.#readMemory()) });
  }

  async #run(batch: string, jobs: readonly RunnerJob[]): Promise<void> {
    const { say } = this.#options;
    const send = (message: RunnerMessage): void => {
      this.#memory?.look();
      this.#send(message);
    };
    const open = new Set(jobs.map((job) => job.id));
    const isOpen = (id: string): boolean => open.has(id);
    const acks: Promise<void>[] = [];
    let reusable = true;
    const context = new BatchContext({ send, say, isOpen, guard: this.#guard, previews: this.#previews, cancelled: this.#cancelled });
    this.#context = context;
    const end = (id: string, result: JobEnd): void => {
      if (!open.delete(id)) return say(`job ${id} ended twice or is not in batch ${batch}; this is a bug of the pipeline`);
      context.review();
      const message = fitMessage(endMessage(id, result), say);
      if (message === null) return;
      if (message.type === "job-failed" && isDeviceFailure(message.error.code)) reusable = false;
      if (message.type === "job-done") acks.push(this.#acked(id));
      this.#options.send(message);
    };
    let failure: unknown = null;
    try {
      await this.#loaded().run(jobs, context, end);
    } catch (thrown) {
      failure = thrown;
      // It gave up on the batch as a whole: what it left behind on the device is unknown, unless it was only the disk.
      reusable = reusable && diskFull(thrown) !== null;
    }
    for (const id of open)
      end(id, {
        ok: false,
        error: failure ?? new AppError("INTERNAL", "the pipeline returned without an end for this job; this is a bug"),
      });
    await context.settled();
    await this.#allAcked(acks);
    this.#cancelled.clear();
    send({ type: "batch-done", batch, reusable, ...(await this.#readMemory()) });
  }

  async #ping(nonce: number): Promise<void> {
    const startedAt = performance.now();
    await this.#loaded().probe();
    this.#send({ type: "pong", nonce, opMs: performance.now() - startedAt });
  }

  async #stop(): Promise<void> {
    await this.#pipeline?.close();
    this.#options.exit(0);
  }

  /** Everything that leaves this process goes through here, cut to the limits of a message. */
  #send(message: RunnerMessage): void {
    const fitted = fitMessage(message, this.#options.say);
    if (fitted !== null) this.#options.send(fitted);
  }

  #loaded(): Pipeline {
    if (this.#pipeline === null) throw new AppError("INTERNAL", "the runner was asked to work before a model was loaded; this is a bug");
    return this.#pipeline;
  }

  async #readRuntime(): Promise<{ readonly runtime?: RuntimeFacts }> {
    const runtime = (await this.#options.runtime?.()) ?? null;
    return runtime === null ? {} : { runtime };
  }

  async #readMemory(): Promise<HeldMemory> {
    return (await this.#memory?.take()) ?? { rssBytes: process.memoryUsage.rss(), deviceBytes: null };
  }

  #acked(id: string): Promise<void> {
    return new Promise((resolve) => {
      this.#acks.set(id, () => {
        this.#acks.delete(id);
        resolve();
      });
    });
  }

  async #allAcked(acks: readonly Promise<void>[]): Promise<void> {
    if (acks.length === 0) return;
    const { promise: waitedLongEnough, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#options.ackWaitMs ?? ACK_WAIT_MS);
    await Promise.race([Promise.all(acks), waitedLongEnough]);
    clearTimeout(timer);
    if (this.#acks.size === 0) return;
    this.#options.say(`no ack for ${[...this.#acks.keys()].join(", ")}`);
    this.#acks.clear();
  }
}

function endMessage(id: string, result: JobEnd): RunnerMessage {
  return result.ok ? { ...result.output, type: "job-done", id } : { type: "job-failed", id, error: failureOf(result.error) };
}

/** A disk without room is the machine's fault, whoever noticed it and whatever they took it for. */
function failureOf(thrown: unknown): ErrorData {
  return toErrorData(diskFull(thrown) ?? thrown, "PIPELINE_FAILED");
}
