import { z } from "zod";
import { jsonBytes } from "../lib/clip-text.ts";
import { MAX_ERROR_DETAIL_BYTES, MAX_ERROR_FIELD_CHARS, MAX_ERROR_MESSAGE_BYTES, MAX_STDERR_BYTES, type ErrorData } from "./error.ts";
import { MAX_PREVIEW_BYTES } from "./event.ts";
import type { JobParams } from "./job.ts";
import { MAX_BATCH, type DeviceKind, type Manifest } from "./manifest.ts";
import { fitsInline, MAX_INFO_BYTES, MAX_RESULT_FILES, spoolFileSchema, type Output } from "./result.ts";
import type { RuntimeOptions } from "./runtime-options.ts";
import type { Task } from "./task.ts";

/**
 * Closed messages between the daemon and a runner (fork, advanced serialization). No message from a runner exceeds 64 KiB: as much leaves
 * at once, even when the next thing that the runner does is to block or to exit, and what is larger may be lost then (measured). Larger
 * results are files in the spool. Commands of the daemon have no such bound: it neither blocks nor exits behind them.
 *
 *   runner                         daemon
 *     | -- hello {version} -------->  |  first message, before anything native is loaded
 *     | <------------------ load ---- |
 *     | -- stage load:<part> ------>  |  what is loaded from now on: arms that stage's deadline, where it has one
 *     | -- ready ------------------>  |  or `fatal`, then exit 1
 *     | <------------------- run ---- |
 *     | -- stage / progress / preview |  `progress` and `stage` re-arm the deadline, which a device that hangs misses
 *     | <---------------- cancel ---- |  at any time: ends the native run under way, once it is for cancelled jobs alone
 *     | -- job-done | job-failed -->  |  one per job of the batch
 *     | <------------------- ack ---- |  outputs of that job are recorded
 *     | -- batch-done ------------->  |  after all of the above: the runner is free again
 */
export const IPC_VERSION = 4;
export const MAX_IPC_BYTES: number = 64 * 1024;

/**
 * What one message may hold, so that none is larger than MAX_IPC_BYTES. The runner cuts to it what it sends (runner/fit-message.ts), the
 * daemon refuses what is beyond it. Texts of results, facts and errors have limits of their own: result.ts, error.ts.
 */
export const IPC_LIMITS = {
  /** Ids, names of stages, devices and models, characters. */
  nameChars: 128,
  previewBytes: MAX_PREVIEW_BYTES,
  /** Of a batch. */
  jobs: MAX_BATCH,
  /** Paths, characters: as many as Linux allows. */
  pathChars: 4096,
  /** Execution providers that a probe found, or that the runtime knows. */
  providers: 32,
  /** Reports of providers, and the characters of one. */
  reports: 8,
  reportChars: 2_048,
  /** Of `placement` as JSON. */
  placementBytes: 16 * 1024,
} as const;

/** onnxruntime's names of what runs a device's nodes. */
export const EXECUTION_PROVIDERS: Readonly<Record<DeviceKind, string>> = {
  cuda: "CUDAExecutionProvider",
  webgpu: "WebGpuExecutionProvider",
  cpu: "CPUExecutionProvider",
};

/** Nodes by execution provider and operator. */
export type Operators = Readonly<Record<string, Readonly<Record<string, number>>>>;

/** Where the library put the nodes of a graph when it opened it; what it names of them says runner/ort/node-placement.ts. */
export interface GraphPlacement {
  /** Relative to the model's folder. */
  readonly path: string;
  readonly operators: Operators;
}

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
  /** What the model may hold on the device, bytes: where it does not fit as a whole, its graphs are open by turns. Absent: all stay open. */
  readonly budgetBytes?: number;
  /** The operator's: before those of the manifest. */
  readonly runtime?: RuntimeOptions;
  /** Libraries of plugin providers: name -> absolute path. */
  readonly epLibraries?: Readonly<Record<string, string>>;
  /** Says in `ready` where the graphs' nodes are. On a GPU that is always said; on a CPU, where it costs some ms a graph, when asked for. */
  readonly placement?: boolean;
}

/** In place of `load`: proves the device and answers `ready`, with no model. The daemon ends the process then. */
export interface ProveCommand {
  readonly type: "prove";
  readonly device: DeviceSpec;
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
  | ProveCommand
  | { readonly type: "run"; readonly batch: string; readonly jobs: readonly RunnerJob[] }
  /** Answered by the job's end: within one node of the graph where a run is for this job alone, at the next step where it is for others too. */
  | { readonly type: "cancel"; readonly id: string }
  | { readonly type: "ack"; readonly id: string }
  /**
   * A real operation on the device, answered by `pong`. Only sent while idle: a batch's own runs prove the device, within the deadlines of its
   * stages, and one more beside them would take time from them.
   */
  | { readonly type: "ping"; readonly nonce: number }
  /** Release the sessions and exit 0. */
  | { readonly type: "stop" };

/** Which onnxruntime a runner has loaded, and how it is called. */
export interface RuntimeFacts {
  /** `c`: its C API through koffi. `node`: onnxruntime-node's own API. */
  readonly api: "c" | "node";
  /** As the library says it, such as 1.30.0. */
  readonly version: string;
  /** Absolute path of the library. */
  readonly library: string;
  /** koffi's version; null without it. */
  readonly koffi: string | null;
  /** Execution providers that this build of onnxruntime knows. */
  readonly available: readonly string[];
  /** Why onnxruntime-node's own API is used although the C API was wanted. */
  readonly fallback?: string;
}

export interface ReadyMessage {
  readonly type: "ready";
  readonly loadMs: number;
  /** Nodes per execution provider in the probe run, e.g. { CUDAExecutionProvider: 3 }. */
  readonly providers: Readonly<Record<string, number>>;
  /** What the execution providers of the model's graphs report of their options, each text once: `CUDAExecutionProvider device_id=0;use_tf32=1...`. */
  readonly reports?: readonly string[];
  /** Absent for a family without native code. */
  readonly runtime?: RuntimeFacts;
  /** Graph by graph, in the order in which they were opened. Not there where the runtime does not tell, or nothing native runs. */
  readonly placement?: readonly GraphPlacement[];
  readonly rssBytes: number;
  /** What the device reports as used by this process after the load; null where it cannot be read. */
  readonly deviceBytes: number | null;
}

/** What a pipeline made of a job, and how long each part took. */
export interface JobOutput extends Output {
  readonly inputMs: number;
  readonly runMs: number;
  readonly encodeMs: number;
  /** Sum of the native session runs inside `runMs`: what a bare loop would have cost. */
  readonly sessionMs: number;
  /** Inside `runMs`: opening graphs again that had been released for others. Absent where all of them stay open. */
  readonly wakeMs?: number;
  /** Inside `runMs`: releasing graphs so that others have room. */
  readonly parkMs?: number;
}

export interface JobDoneMessage extends JobOutput {
  readonly type: "job-done";
  readonly id: string;
}

export type RunnerMessage =
  | { readonly type: "hello"; readonly version: number; readonly pid: number }
  /** What runs until the next stage, and the jobs that it is for; a load has none. */
  | { readonly type: "stage"; readonly stage: string; readonly ids?: readonly string[] }
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

const ms = z.number().nonnegative();
const name = z.string().max(IPC_LIMITS.nameChars);
const id = name;
const atMost = (bytes: number): z.ZodString => z.string().refine((text) => text.length <= bytes && jsonBytes(text) <= bytes);
const blackBox = z.object({
  signal: name.optional(),
  exitCode: z.number().optional(),
  stage: name.optional(),
  step: z.number().optional(),
  model: name.optional(),
  device: name.optional(),
  rssBytes: z.number().optional(),
  stderr: atMost(MAX_STDERR_BYTES).optional(),
});
const errorData = z.object({
  code: name,
  message: atMost(MAX_ERROR_MESSAGE_BYTES),
  detail: atMost(MAX_ERROR_DETAIL_BYTES).optional(),
  field: z.string().max(MAX_ERROR_FIELD_CHARS).optional(),
  retryAfterMs: ms.optional(),
  blackBox: blackBox.optional(),
});
const info = z
  .record(z.string(), z.union([z.string(), z.number(), z.boolean()]))
  .refine((facts) => Buffer.byteLength(JSON.stringify(facts)) <= MAX_INFO_BYTES);

const placement = z
  .array(z.object({ path: name, operators: z.record(name, z.record(name, z.number())) }))
  .refine((graphs) => Buffer.byteLength(JSON.stringify(graphs)) <= IPC_LIMITS.placementBytes);

export const messageSchema: z.ZodType = z.discriminatedUnion("type", [
  z.object({ type: z.literal("hello"), version: z.number(), pid: z.number() }),
  z.object({ type: z.literal("stage"), stage: name, ids: z.array(id).max(IPC_LIMITS.jobs).optional() }),
  z.object({
    type: z.literal("ready"),
    loadMs: ms,
    providers: z.record(name, z.number()).refine((found) => Object.keys(found).length <= IPC_LIMITS.providers),
    reports: z.array(z.string().max(IPC_LIMITS.reportChars)).max(IPC_LIMITS.reports).optional(),
    runtime: z
      .object({
        api: z.enum(["c", "node"]),
        version: name,
        library: z.string().max(IPC_LIMITS.pathChars),
        koffi: name.nullable(),
        available: z.array(name).max(IPC_LIMITS.providers),
        fallback: atMost(MAX_ERROR_MESSAGE_BYTES).optional(),
      })
      .optional(),
    placement: placement.optional(),
    rssBytes: ms,
    deviceBytes: ms.nullable(),
  }),
  z.object({ type: z.literal("fatal"), error: errorData }),
  z.object({ type: z.literal("progress"), id, fraction: z.number(), stage: name, step: z.number(), steps: z.number(), stepMs: ms }),
  z.object({
    type: z.literal("preview"),
    id,
    jpeg: z.instanceof(Uint8Array).refine(({ byteLength }) => byteLength <= IPC_LIMITS.previewBytes),
    step: z.number(),
  }),
  z.object({
    type: z.literal("job-done"),
    id,
    files: z.array(spoolFileSchema).min(1).max(MAX_RESULT_FILES),
    seed: z.number().nullable(),
    info,
    text: z.string().refine(fitsInline).optional(),
    inputMs: ms,
    runMs: ms,
    encodeMs: ms,
    sessionMs: ms,
    wakeMs: ms.optional(),
    parkMs: ms.optional(),
  }),
  z.object({ type: z.literal("job-failed"), id, error: errorData }),
  z.object({ type: z.literal("batch-done"), batch: id, reusable: z.boolean(), rssBytes: ms, deviceBytes: ms.nullable() }),
  z.object({ type: z.literal("pong"), nonce: z.number(), opMs: ms }),
]);

/** A message from a child is untrusted input (the child may be broken). Null when it is none of ours, or larger than allowed. */
export function parseRunnerMessage(value: unknown): RunnerMessage | null {
  const parsed = messageSchema.safeParse(value);
  return parsed.success ? (parsed.data as RunnerMessage) : null;
}
