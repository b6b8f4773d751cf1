import { asAppError } from "../../protocol/error.ts";
import type { JobDoneMessage } from "../../protocol/ipc.ts";
import { RESULT_VERSION, type JobResult } from "../../protocol/result.ts";
import type { CompleteEntry, SpoolEntry } from "../spool/spool.ts";
import { isComplete } from "../spool/spool.ts";
import { SPOOL_VERSION, type CompleteRecord } from "../spool/spool-record.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { HeldJob } from "./held-job.ts";

/** What the daemon adds to what the runner said. */
export interface RunNotes {
  readonly device: string;
  /** From its submit to its claim. */
  readonly queuedMs: number;
  /** How long the job waited for its model to load. */
  readonly loadMs: number;
  /** How long its inputs took to come. */
  readonly inputMs: number;
}

/** Checks the runner's files and records that they are whole: from here on the work is not repeated on this host. @throws AppError BAD_OUTPUT | SPOOL_FULL */
export async function recordOutputs(context: WorkerContext, job: HeldJob, entry: CompleteEntry, done: JobDoneMessage): Promise<void> {
  const { complete } = entry;
  await context.spool.verify(entry, complete.files, job.signal);
  await context.spool.complete(entry, complete);
  const { runMs, encodeMs, sessionMs } = done;
  job.log.debug({ runMs, encodeMs, sessionMs }, "the runner reported the job done");
  const { stageSeconds } = context.metrics;
  for (const [stage, ms] of [
    ["input", complete.timings.inputMs],
    ["run", runMs],
    ["encode", encodeMs],
  ] as const)
    stageSeconds.observe({ model: job.model, stage }, ms / 1_000);
}

export function completeRecord(done: JobDoneMessage, notes: RunNotes): CompleteRecord {
  const { files, seed, info, text } = done;
  return {
    v: SPOOL_VERSION,
    files,
    seed,
    info,
    ...(text === undefined ? {} : { text }),
    timings: {
      queueMs: Math.round(notes.queuedMs),
      loadMs: Math.round(notes.loadMs),
      inputMs: Math.round(notes.inputMs + done.inputMs),
      runMs: Math.round(done.runMs),
      encodeMs: Math.round(done.encodeMs),
      ...(done.wakeMs !== undefined && { wakeMs: Math.round(done.wakeMs) }),
      ...(done.parkMs !== undefined && { parkMs: Math.round(done.parkMs) }),
    },
    device: notes.device,
    completedAt: Date.now(),
  };
}

/** The entry if its outputs are whole and are what their maker said; else its damaged outputs are removed and the job runs again. */
export async function verifiedEntry(context: WorkerContext, job: HeldJob, entry: SpoolEntry): Promise<CompleteEntry | null> {
  if (!isComplete(entry)) return null;
  try {
    await context.spool.verify(entry, entry.complete.files, job.signal);
  } catch (thrown) {
    job.signal.throwIfAborted();
    const error = asAppError(thrown);
    job.log.warn({ err: error }, "outputs of an earlier claim are damaged or cannot be read; the job runs again");
    // What cannot be read now (no file descriptor left) may be whole all the same.
    if (error.code === "BAD_OUTPUT") await context.spool.removeUpTo(job.id, entry.claim.claim);
    return null;
  }
  job.log.info(
    { earlierClaim: entry.claim.claim },
    "outputs of an earlier claim are in the spool; they are stored, the job does not run again",
  );
  return entry;
}

/** Uploads, however long the store is away. @throws AppError BAD_OUTPUT; `signal.reason` */
export async function storeOutputs(
  context: WorkerContext,
  job: HeldJob,
  { outDir, complete }: CompleteEntry,
  signal: AbortSignal,
): Promise<JobResult> {
  const startedAt = performance.now();
  const { claim } = job.claim;
  const files = await context.uploader.upload({ id: job.id, claim, outDir, files: complete.files, signal });
  const uploadMs = performance.now() - startedAt;
  context.metrics.stageSeconds.observe({ model: job.model, stage: "upload" }, uploadMs / 1_000);
  const { seed, info, text, device } = complete;
  return {
    v: RESULT_VERSION,
    files,
    claim,
    seed,
    timings: { ...complete.timings, uploadMs: Math.round(uploadMs) },
    info,
    ...(text === undefined ? {} : { text }),
    worker: context.config.workerName,
    device,
    finishedAt: Date.now(),
  };
}
