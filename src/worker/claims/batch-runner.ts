import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { countsAsCrash } from "../../core/job-outcome.ts";
import { asAppError, fromErrorData } from "../../protocol/error.ts";
import type { JobDoneMessage, RunnerJob } from "../../protocol/ipc.ts";
import type { ClaimKeeper } from "./claim-keeper.ts";
import type { DeviceWatch } from "../devices/device-watch.ts";
import { fetchSource, sourceUrlOf } from "./fetch-source.ts";
import type { Finisher } from "./finisher.ts";
import type { HeldJob } from "./held-job.ts";
import { JobRelay } from "./job-relay.ts";
import type { RunnerProcess } from "../runners/runner-process.ts";
import type { BatchEnd, JobOutcome, RunnerEvent } from "../runners/runner-types.ts";
import { SPOOL_VERSION } from "../spool/spool-record.ts";
import type { SpoolClaim } from "../spool/spool.ts";
import { StageClock } from "./stage-clock.ts";
import type { WorkerContext } from "../worker-context.ts";

/** Largest input that is taken from the object store; the gateway's own limits are lower. */
const MAX_INPUT_BYTES = 512 * 1024 * 1024;

interface Member {
  readonly job: HeldJob;
  readonly relay: JobRelay;
  readonly entry: SpoolClaim;
  readonly inputs: RunnerJob["inputs"];
  readonly inputMs: number;
}

export interface BatchReport {
  readonly reusable: boolean;
  /** Held jobs that must run again by themselves, and whether others are to be evicted first. */
  readonly rerun: readonly { readonly job: HeldJob; readonly evictOthers: boolean }[];
  readonly rssBytes: number;
  readonly deviceBytes: number | null;
}

/** Runs one batch on one runner: inputs in, events out, outputs into the spool, and each member to its end or back to the caller. */
export class BatchRunner {
  readonly #context: WorkerContext;
  readonly #keeper: ClaimKeeper;
  readonly #finisher: Finisher;
  readonly #watch: DeviceWatch;

  constructor(context: WorkerContext, parts: { readonly keeper: ClaimKeeper; readonly finisher: Finisher; readonly watch: DeviceWatch }) {
    this.#context = context;
    this.#keeper = parts.keeper;
    this.#finisher = parts.finisher;
    this.#watch = parts.watch;
  }

  async run(runner: RunnerProcess, device: string, jobs: readonly HeldJob[]): Promise<BatchReport> {
    const prepared = await Promise.all(jobs.map((job) => this.#prepare(job, device)));
    const members = new Map(prepared.flatMap((member) => (member === null ? [] : [[member.job.id, member] as const])));
    if (members.size === 0 || runner.state !== "ready") return this.#notRun(runner, [...members.values()]);
    await Promise.all([...members.values()].map((member) => this.#start(member)));
    const end = await this.#dispatch(runner, device, members);
    return this.#settle(end, device, members);
  }

  /** The runner ended between the claim and the dispatch: nobody's job is to blame, they wait for the next runner. */
  #notRun(runner: RunnerProcess, members: readonly Member[]): BatchReport {
    const { rssBytes, deviceBytes } = runner.memory;
    const rerun = members.map(({ job }) => ({ job, evictOthers: false }));
    return { reusable: runner.state === "ready", rerun, rssBytes, deviceBytes };
  }

  /** Makes the spool folder and fetches the inputs. Null when the job ended here. */
  async #prepare(job: HeldJob, device: string): Promise<Member | null> {
    const startedAt = performance.now();
    const { id, queue, token, claim } = job.claim;
    try {
      const entry = await this.#context.spool.create({
        v: SPOOL_VERSION,
        id,
        queue,
        token,
        claim,
        client: job.data.client,
        model: job.data.model,
        device,
        acceptedAt: Date.now(),
      });
      const inputs = await this.#fetchInputs(job, entry);
      job.signal.throwIfAborted();
      const relay = new JobRelay(this.#context, job, () => void this.#keeper.renew());
      return { job, relay, entry, inputs, inputMs: performance.now() - startedAt };
    } catch (thrown) {
      await this.#finisher.fail(job, thrown, { wasAlone: true, deviceBlamed: false, crashClaims: 0 });
      return null;
    }
  }

  async #fetchInputs(job: HeldJob, entry: SpoolClaim): Promise<RunnerJob["inputs"]> {
    const url = sourceUrlOf(job.data.task, job.data.params);
    if (job.data.inputs.length === 0 && url === null) return [];
    await mkdir(entry.inDir, { recursive: true });
    if (url !== null) {
      const { guardedFetch, config } = this.#context;
      const path = join(entry.inDir, "source");
      return [await fetchSource(guardedFetch, { url, path, maxBytes: config.maxSourceBytes, signal: job.signal })];
    }
    return Promise.all(
      job.data.inputs.map(async (input, index) => {
        const path = join(entry.inDir, String(index));
        const maxBytes = Math.min(MAX_INPUT_BYTES, input.sizeBytes);
        await this.#context.store.getToFile(input.key, path, { maxBytes, sha256: input.sha256, signal: job.signal });
        return { name: input.name, path, contentType: input.contentType };
      }),
    );
  }

  async #start(member: Member): Promise<void> {
    const { job, relay } = member;
    const now = Date.now();
    if (job.startedAt === null) {
      this.#context.metrics.queueWaitSeconds.observe({ model: job.data.model }, (now - job.data.submittedAt) / 1_000);
      await this.#recordStart(job, now).catch((thrown: unknown) => {
        job.log.warn({ err: asAppError(thrown) }, "the start was not recorded");
      });
    }
    this.#keeper.startClock(job, job.startedAt ?? now);
    relay.started();
  }

  /** The announcement first: a start that is recorded has been announced. One that fails is made up for by the courier at the job's end. */
  async #recordStart(job: HeldJob, at: number): Promise<void> {
    if (job.data.webhook === true) await this.#context.queues.announceStart(job.data, at);
    await this.#context.requests.markStarted(job.id, at);
  }

  async #dispatch(runner: RunnerProcess, device: string, members: ReadonlyMap<string, Member>): Promise<BatchEnd> {
    for (const { job } of members.values()) job.whenAborted((reason) => void runner.cancel(job.id, { error: reason }));
    const [first] = members.values();
    const model = first?.job.data.model ?? "";
    const stages = new StageClock((stage, seconds) => this.#context.metrics.stageSeconds.observe({ model, stage }, seconds));
    const running = runner.runBatch({
      batch: randomUUID(),
      jobs: [...members.values()].map(({ job, inputs, entry }) => {
        const { task, params } = job.data;
        return { id: job.id, task, params, inputs, outDir: entry.outDir };
      }),
      onEvent: (event) => this.#onEvent(members, stages, event),
      onJobEnd: (id, outcome) => this.#onJobEnd(members.get(id), device, outcome),
    });
    // A job that was aborted while it was prepared is cancelled now that the runner knows it.
    for (const { job } of members.values()) if (job.abortReason !== null) runner.cancel(job.id, { error: job.abortReason });
    const end = await running;
    stages.stop();
    for (const { job } of members.values()) job.whenAborted(null);
    return end;
  }

  #onEvent(members: ReadonlyMap<string, Member>, stages: StageClock, event: RunnerEvent): void {
    if (event.type === "stage") {
      stages.enter(event.stage);
      for (const { relay } of members.values()) relay.stage(event.stage);
      return;
    }
    const member = members.get(event.id);
    if (member === undefined) return;
    if (event.type === "preview") return member.relay.preview(event);
    if (event.stage === "denoise") this.#context.metrics.stepSeconds.observe({ model: member.job.data.model }, event.stepMs / 1_000);
    member.relay.progress(event);
  }

  /** Called as soon as the runner reports a job's end; the runner waits for the outputs to be recorded. A rejection fails the job. */
  async #onJobEnd(member: Member | undefined, device: string, outcome: JobOutcome): Promise<void> {
    if (member === undefined || outcome.kind !== "done") return;
    const { job, entry, relay } = member;
    job.signal.throwIfAborted();
    await this.#context.spool.verify(entry, outcome.message.files, job.signal);
    const record = this.#record(member, device, outcome.message);
    const { runMs, encodeMs, sessionMs } = outcome.message;
    job.log.debug({ runMs, encodeMs, sessionMs }, "the runner reported the job done");
    await this.#context.spool.complete(entry, record);
    job.whenAborted(null);
    await relay.close();
    this.#watch.succeeded(device);
    this.#finisher.store(job, entry, record);
  }

  #record(member: Member, device: string, done: JobDoneMessage): Parameters<WorkerContext["spool"]["complete"]>[1] {
    const { job, inputMs } = member;
    const { model } = job.data;
    const { stageSeconds } = this.#context.metrics;
    stageSeconds.observe({ model, stage: "input" }, (inputMs + done.inputMs) / 1_000);
    stageSeconds.observe({ model, stage: "run" }, done.runMs / 1_000);
    stageSeconds.observe({ model, stage: "encode" }, done.encodeMs / 1_000);
    return {
      v: SPOOL_VERSION,
      files: done.files,
      seed: done.seed,
      info: done.info,
      ...(done.text === undefined ? {} : { text: done.text }),
      timings: {
        queueMs: Math.max(0, job.claimedAt - job.data.submittedAt),
        loadMs: Math.round(job.loadMs),
        inputMs: Math.round(inputMs + done.inputMs),
        runMs: Math.round(done.runMs),
        encodeMs: Math.round(done.encodeMs),
      },
      device,
      completedAt: Date.now(),
    };
  }

  async #settle(end: BatchEnd, device: string, members: ReadonlyMap<string, Member>): Promise<BatchReport> {
    const rerun: { job: HeldJob; evictOthers: boolean }[] = [];
    const wasAlone = members.size === 1;
    // Newest claim first: jobs that are handed back then stand in their old order at the front of the queue.
    for (const [id, outcome] of [...end.jobs].toReversed()) {
      const member = members.get(id);
      if (member === undefined || outcome.kind === "done") continue;
      await member.relay.close();
      const again = await this.#endFailed(member.job, { outcome, end, device, wasAlone });
      if (again !== null) rerun.push({ job: member.job, evictOthers: again.evictOthers });
    }
    const { reusable, rssBytes, deviceBytes } = end;
    return { reusable, rerun, rssBytes, deviceBytes };
  }

  async #endFailed(
    job: HeldJob,
    run: {
      readonly outcome: Exclude<JobOutcome, { kind: "done" }>;
      readonly end: BatchEnd;
      readonly device: string;
      readonly wasAlone: boolean;
    },
  ): Promise<{ readonly evictOthers: boolean } | null> {
    const { outcome, end, device, wasAlone } = run;
    const error = fromErrorData(outcome.error);
    if (outcome.kind === "unfinished" && end.exit?.crashed === false && job.abortReason === null) {
      // Killed for another job's cancel: this one did nothing wrong and runs again.
      return { evictOthers: false };
    }
    const cancelled = job.abortReason !== null;
    const crashedAlone = error.code === "RUNNER_CRASHED" && wasAlone && !cancelled;
    const deviceBlamed = crashedAlone && this.#watch.crashed(device, job.id);
    const facts = { wasAlone, deviceBlamed };
    const counts = countsAsCrash({ ...facts, error: outcome.error, cancelled, preempted: false });
    const crashClaims = counts ? await this.#recordCrash(job) : 0;
    const again = await this.#finisher.fail(job, error, { ...facts, crashClaims });
    if (again === null) return null;
    job.mustRunAlone = true;
    job.afterEviction = again.evictOthers;
    return { evictOthers: again.evictOthers };
  }

  async #recordCrash(job: HeldJob): Promise<number> {
    try {
      return await this.#context.ledger.recordCrash(job.id, job.claim.claim);
    } catch (thrown) {
      job.log.warn({ err: asAppError(thrown) }, "a crash was not counted");
      return 1;
    }
  }
}
