import { z } from "zod";
import type { ErrorData } from "./error.ts";
import type { JobParams } from "./job.ts";
import type { DeviceKind, Manifest } from "./manifest.ts";
import { spoolFileSchema, type SpoolFile } from "./result.ts";
import type { Task } from "./task.ts";

/**
 * Closed messages between the daemon and a runner (fork, advanced serialization). No message exceeds 64 KiB: larger results are
 * files in the spool (a bigger message may be lost when the child exits, measured).
 *
 *   runner                         daemon
 *     | -- hello {version} -------->  |  first message, before anything native is loaded
 *     | <------------------ load ---- |
 *     | -- stage load:<part> ------>  |  before each blocking call: arms that stage's deadline
 *     | -- ready ------------------>  |  or `fatal`, then exit 1
 *     | <------------------- run ---- |
 *     | -- stage / progress / preview |  `progress` and `stage` re-arm the deadline
 *     | -- job-done | job-failed -->  |  one per job of the batch
 *     | <------------------- ack ---- |  outputs of that job are recorded
 *     | -- batch-done ------------->  |  after all of the above: the runner is free again
 */
export const IPC_VERSION = 1;
export const MAX_IPC_BYTES: number = 64 * 1024;

export interface DeviceSpec {
  readonly kind: DeviceKind;
  /** CUDA ordinal; 0 for cpu and webgpu. */
  readonly index: number;
  /** Threads for CPU kernels; 0 leaves it to the runtime. */
  readonly threads: number;
}

export interface LoadCommand {
  readonly type: "load";
  readonly manifest: Manifest;
  /** Absolute folder that holds the manifest's files. */
  readonly modelDir: string;
  readonly device: DeviceSpec;
  readonly previews: boolean;
  /** Bytes for the prompt-embedding cache. */
  readonly embeddingCacheBytes: number;
}

/** One job of a batch, inputs already on local disk. */
export interface RunnerJob {
  readonly id: string;
  readonly task: Task;
  readonly params: JobParams;
  readonly inputs: readonly { readonly name: string; readonly path: string; readonly contentType: string }[];
  /** Existing, empty folder that the outputs go to; names in `job-done` are relative to it. */
  readonly outDir: string;
}

export type RunnerCommand =
  | LoadCommand
  | { readonly type: "run"; readonly batch: string; readonly jobs: readonly RunnerJob[] }
  | { readonly type: "cancel"; readonly id: string }
  | { readonly type: "ack"; readonly id: string }
  /** A real operation on the device, answered by `pong`; only sent while idle. */
  | { readonly type: "ping"; readonly nonce: number }
  /** Release the sessions and exit 0. */
  | { readonly type: "stop" };

export interface ReadyMessage {
  readonly type: "ready";
  readonly loadMs: number;
  /** Nodes per execution provider in the probe run, e.g. { CUDAExecutionProvider: 3 }. */
  readonly providers: Readonly<Record<string, number>>;
  readonly rssBytes: number;
  /** What the device reports as used by this process after the load; null where it cannot be read. */
  readonly deviceBytes: number | null;
}

export interface JobDoneMessage {
  readonly type: "job-done";
  readonly id: string;
  readonly files: readonly SpoolFile[];
  readonly seed: number | null;
  readonly info: Readonly<Record<string, string | number | boolean>>;
  readonly text?: string;
  readonly inputMs: number;
  readonly runMs: number;
  readonly encodeMs: number;
  /** Sum of the native session runs inside `runMs`: what a bare loop would have cost. */
  readonly sessionMs: number;
}

export type RunnerMessage =
  | { readonly type: "hello"; readonly version: number; readonly pid: number }
  /** `deadlineMs` overrides the manifest's deadline of that stage. */
  | { readonly type: "stage"; readonly stage: string; readonly deadlineMs?: number }
  | ReadyMessage
  | { readonly type: "fatal"; readonly error: ErrorData }
  | {
      readonly type: "progress";
      readonly id: string;
      /** 0..1 over the whole job. */
      readonly fraction: number;
      readonly stage: string;
      readonly step: number;
      readonly steps: number;
      /** Duration of the step that just ended. */
      readonly stepMs: number;
    }
  | { readonly type: "preview"; readonly id: string; readonly jpeg: Uint8Array; readonly step: number }
  | JobDoneMessage
  | { readonly type: "job-failed"; readonly id: string; readonly error: ErrorData }
  /** `reusable: false` asks to be replaced (a device error may have poisoned the context). */
  | {
      readonly type: "batch-done";
      readonly batch: string;
      readonly reusable: boolean;
      readonly rssBytes: number;
      readonly deviceBytes: number | null;
    }
  | { readonly type: "pong"; readonly nonce: number; readonly opMs: number };

const errorData = z.object({ code: z.string(), message: z.string(), blackBox: z.record(z.string(), z.unknown()).optional() });
const id = z.string();
const ms = z.number().nonnegative();

const messageSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), version: z.number(), pid: z.number() }),
  z.object({ type: z.literal("stage"), stage: z.string(), deadlineMs: z.number().positive().optional() }),
  z.object({
    type: z.literal("ready"),
    loadMs: ms,
    providers: z.record(z.string(), z.number()),
    rssBytes: ms,
    deviceBytes: ms.nullable(),
  }),
  z.object({ type: z.literal("fatal"), error: errorData }),
  z.object({ type: z.literal("progress"), id, fraction: z.number(), stage: z.string(), step: z.number(), steps: z.number(), stepMs: ms }),
  z.object({ type: z.literal("preview"), id, jpeg: z.instanceof(Uint8Array), step: z.number() }),
  z.object({
    type: z.literal("job-done"),
    id,
    files: z.array(spoolFileSchema).min(1),
    seed: z.number().nullable(),
    info: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    text: z.string().optional(),
    inputMs: ms,
    runMs: ms,
    encodeMs: ms,
    sessionMs: ms,
  }),
  z.object({ type: z.literal("job-failed"), id, error: errorData }),
  z.object({ type: z.literal("batch-done"), batch: z.string(), reusable: z.boolean(), rssBytes: ms, deviceBytes: ms.nullable() }),
  z.object({ type: z.literal("pong"), nonce: z.number(), opMs: ms }),
]);

/** A message from a child is untrusted input (the child may be broken). Null when it is none of ours. */
export function parseRunnerMessage(value: unknown): RunnerMessage | null {
  const parsed = messageSchema.safeParse(value);
  return parsed.success ? (parsed.data as RunnerMessage) : null;
}
