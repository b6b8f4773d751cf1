import { decideRerun, isDeviceFault, NO_FAULTS, type FaultCount } from "../../core/job-outcome.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { AppError, asAppError, fromErrorData, type ErrorData } from "../../protocol/error.ts";
import type { DeviceWatch } from "../devices/device-watch.ts";
import type { Member, RunOutcome, Seat } from "../runners/batch-seat.ts";
import type { RunnerEvent } from "../runners/runner-types.ts";
import type { Reruns } from "../scheduling/reruns.ts";
import { SPOOL_VERSION } from "../spool/spool-record.ts";
import type { CompleteEntry, SpoolClaim } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { HeldJob } from "./held-job.ts";
import { fetchInputs } from "./inputs.ts";
import { JobRelay } from "./job-relay.ts";
import { completeRecord, recordOutputs, type RunNotes } from "./outputs.ts";
import type { Ending } from "./settler.ts";

export interface RunParts {
  readonly reruns: Reruns;
  readonly watch: DeviceWatch;
  /** An event was refused for its lock: all locks are to be looked at now. */
  readonly onLockDoubt: () => void;
}

/** Stores outputs. A reason of `signal` that is not the job's own takes back what was put. */
type Store = (entry: CompleteEntry, signal: AbortSignal) => Promise<Ending>;

/**
 * From a seat to outputs in the store: inputs, a run, and further runs under the same claim where one says nothing about the job (its
 * runner ended, or it was one of a batch that failed). Rejects with what went wrong around the runs.
 */
export async function runJob(context: WorkerContext, parts: RunParts, job: HeldJob, first: Seat, store: Store): Promise<Ending> {
  const beganAt = steadyNow();
  const entry = await createEntry(context, job);
  const inputs = await fetchInputs(context, job, entry);
  job.signal.throwIfAborted();
  const inputMs = steadyNow() - beganAt;
  await using relay = new JobRelay(context, job, parts.onLockDoubt);
  const { task, params } = job.data;
  let start: Promise<number> | null = null;
  const started = async (): Promise<number> => start ?? 0;
  const member: Member = {
    job: { id: job.id, task, params, inputs, outDir: entry.outDir },
    signal: job.signal,
    onStart: async () => {
      if (start !== null) return;
      // Not waited for before the run, but before its result is stored.
      start = recordStart(context, job);
      relay.started(start);
    },
    onEvent: (event) => tell(relay, event, (ms) => context.metrics.stepSeconds.observe({ model: job.model }, ms / 1_000)),
  };

  return await runUntilEnd(context, parts, { job, first, entry, member, inputMs, started, store });
}

interface Running {
  readonly job: HeldJob;
  readonly first: Seat;
  readonly entry: SpoolClaim;
  readonly member: Member;
  readonly inputMs: number;
  /** Resolves when the start has been recorded, to how long the job was queued, milliseconds; at once to 0 before its first start. */
  readonly started: () => Promise<number>;
  readonly store: Store;
}

async function runUntilEnd(context: WorkerContext, parts: RunParts, running: Running): Promise<Ending> {
  const { job, first, entry, member, inputMs, store } = running;
  let afterEviction = false;
  for (let next = first; ; next = await parts.reruns.next(job, afterEviction ? next.runner : null)) {
    using seat = next;
    if (seat !== first) await context.spool.emptyOutputs(entry);
    const outcome = await seat.run(member);
    if (outcome.kind === "done") {
      const queuedMs = await running.started();
      return await keep(context, { job, outcome, seat, entry, queuedMs, inputMs, watch: parts.watch }, store);
    }
    job.signal.throwIfAborted();
    if (outcome.kind === "not-run") continue;
    const again = decideRerun({ ...outcome, afterEviction });
    if (again === null) return await failed(context, job, outcome.error, parts.watch, seat.runner.device.id);
    afterEviction = again.evictOthers;
    job.log.warn({ error: outcome.error, evictOthers: afterEviction }, "the job runs again by itself");
  }
}

async function createEntry(context: WorkerContext, job: HeldJob): Promise<SpoolClaim> {
  const { id, queue, token, claim } = job.claim;
  return context.spool.create({ v: SPOOL_VERSION, id, queue, token, claim });
}

function tell(relay: JobRelay, event: RunnerEvent, onStep: (ms: number) => void): void {
  if (event.type === "stage") return relay.stage(event.stage);
  if (event.type === "preview") return relay.preview(event);
  if (event.stage === "denoise") onStep(event.stepMs);
  relay.progress(event);
}

/**
 * Starts the clock of the job's time limit; returns how long the job had waited when it was claimed, milliseconds. The announcement goes
 * first: a start that is recorded has been announced. One that fails is made up for by the courier at the job's end.
 */
async function recordStart(context: WorkerContext, job: HeldJob): Promise<number> {
  const { requests, queues, metrics } = context;
  let [elapsedMs, queuedMs] = [0, 0];
  try {
    const startedAt = await requests.now();
    queuedMs = Math.max(0, startedAt - job.data.submittedAt - (steadyNow() - job.heldSince));
    if (job.data.webhook === true) await queues.announceStart(job.data, startedAt);
    const start = await requests.markStarted(job.id, startedAt);
    elapsedMs = start.elapsedMs;
    if (start.first) metrics.queueWaitSeconds.observe({ model: job.model }, queuedMs / 1_000);
  } catch (thrown) {
    job.log.warn({ err: asAppError(thrown) }, "the start was not recorded");
  }
  job.startClock(elapsedMs);
  return queuedMs;
}

interface DoneRun {
  readonly job: HeldJob;
  readonly outcome: Extract<RunOutcome, { kind: "done" }>;
  readonly seat: Seat;
  readonly entry: SpoolClaim;
  readonly queuedMs: number;
  readonly inputMs: number;
  readonly watch: DeviceWatch;
}

/** Records that the outputs are whole, and stores them meanwhile: the store compares the digests too. Both are done when this resolves. */
async function keep(context: WorkerContext, run: DoneRun, store: Store): Promise<Ending> {
  const { job, entry, outcome } = run;
  const whole: CompleteEntry = { ...entry, complete: completeRecord(outcome.done, notesOf(run)) };
  const stop = new AbortController();
  const stored = store(whole, AbortSignal.any([job.signal, stop.signal]));
  // Waited for below, in any case.
  stored.catch(() => undefined);
  try {
    await record(context, run, whole);
  } catch (thrown) {
    stop.abort(new AppError("CANCELLED", "outputs that could not be recorded are not stored"));
    await stored.catch(() => undefined);
    throw thrown;
  }
  return stored;
}

function notesOf({ job, seat, queuedMs, inputMs }: DoneRun): RunNotes {
  const { device, loadedAt, loadMs } = seat.runner;
  // The part of the load that the job waited for: it may have been submitted in the middle of it, or long after.
  const submittedAt = job.heldSince - queuedMs;
  const waitedMs = job.claim.claim > 1 ? 0 : Math.max(0, loadedAt - Math.max(submittedAt, loadedAt - loadMs));
  return { device: device.id, queuedMs, loadMs: waitedMs, inputMs };
}

async function record(context: WorkerContext, { job, outcome, seat, watch }: DoneRun, whole: CompleteEntry): Promise<void> {
  try {
    await recordOutputs(context, job, whole, outcome.done);
  } finally {
    outcome.recorded();
  }
  watch.succeeded(seat.runner.device.id);
}

/** A device fault is counted against the job and against the device, which may turn out to be the one to blame. */
async function failed(
  context: WorkerContext,
  job: HeldJob,
  error: ErrorData,
  watch: DeviceWatch,
  device: string,
): Promise<Extract<Ending, { kind: "failed" }>> {
  const ending = { kind: "failed", error: fromErrorData(error), deviceBlamed: false, faults: NO_FAULTS } as const;
  if (!isDeviceFault(error.code)) return ending;
  const deviceBlamed = watch.faulted(device, job.id, error);
  return { ...ending, deviceBlamed, faults: await countFault(context, job, deviceBlamed) };
}

async function countFault(context: WorkerContext, job: HeldJob, deviceBlamed: boolean): Promise<FaultCount> {
  try {
    return await context.ledger.recordFault(job.id, job.claim.claim, deviceBlamed ? "device" : "job");
  } catch (thrown) {
    job.log.warn({ err: asAppError(thrown) }, "a device fault was not counted");
    return { onJob: deviceBlamed ? 0 : 1, onDevice: deviceBlamed ? 1 : 0 };
  }
}
