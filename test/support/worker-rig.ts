import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../../src/config/config.ts";
import type { JobData } from "../../src/protocol/job.ts";
import type { Manifest } from "../../src/protocol/manifest.ts";
import type { Claim } from "../../src/queue/queue-types.ts";
import type { Registry, WorkerAnnouncement } from "../../src/state/state-types.ts";
import type { GetToFileOptions, ObjectHead, ObjectStore } from "../../src/storage/object-store.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { Carrier } from "../../src/worker/claims/carrier.ts";
import { ClaimKeeper } from "../../src/worker/claims/claim-keeper.ts";
import { Claimer } from "../../src/worker/claims/claimer.ts";
import { Settler } from "../../src/worker/claims/settler.ts";
import type { DetectedDevice } from "../../src/worker/devices/devices.ts";
import { DeviceWatch, type QuarantineNote } from "../../src/worker/devices/device-watch.ts";
import { Batch } from "../../src/worker/runners/batch.ts";
import type { PooledRunner } from "../../src/worker/runners/runner-pool.ts";
import { Reruns } from "../../src/worker/scheduling/reruns.ts";
import { SPOOL_VERSION } from "../../src/worker/spool/spool-record.ts";
import { openSpool, type Spool } from "../../src/worker/spool/spool.ts";
import type { WorkerContext } from "../../src/worker/worker-context.ts";
import { fakeManifest } from "../fixtures/runner-rig.ts";
import { FakeEmitter } from "./fake-emitter.ts";
import { FakeLedger } from "./fake-ledger.ts";
import { FakeModels } from "./fake-models.ts";
import { fakeJobData, FakeQueues } from "./fake-queues.ts";
import { FakeRequests } from "./fake-requests.ts";
import { FakeRunner, type FakeRunnerOptions } from "./fake-runner.ts";
import { FakeUploader } from "./fake-uploader.ts";

/** Every wait ends: a test that waits in vain fails with what it waited for. */
const WAIT_MS = 20_000;

/** Resolves once the condition holds. Looks after every turn of the event loop, so that it costs no time of its own. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

export const CPU_DEVICE: DetectedDevice = {
  id: "cpu:0",
  kind: "cpu",
  index: 0,
  threads: 1,
  name: "test",
  memoryBytes: 2 ** 40,
  uuid: null,
};

const NOT_USED = (): never => {
  throw new Error("the test did not expect this of the object store");
};

export interface WorkerRigOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly maxStalled?: number;
  readonly models?: readonly Manifest[];
}

/** The worker's context over fakes and a real spool, and the parts that carry claims. Disposing asserts that nothing was left behind. */
export class WorkerRig implements AsyncDisposable {
  readonly spool: Spool;
  readonly queues: FakeQueues;
  readonly requests = new FakeRequests();
  readonly ledger = new FakeLedger();
  readonly uploader = new FakeUploader();
  readonly emitter: FakeEmitter;
  /** Log lines, as `level text`. */
  readonly lines: string[] = [];
  readonly quarantines: QuarantineNote[] = [];
  readonly evictions: string[] = [];
  readonly pokes: string[] = [];
  /** Models of which a job waits that no runner here can take. */
  readonly unservable = new Set<string>();
  /** Live workers that serve every model, besides `me`. */
  readonly others: string[] = [];
  readonly context: WorkerContext;
  readonly keeper: ClaimKeeper;
  readonly stop = new AbortController();
  readonly settler: Settler;
  readonly reruns: Reruns;
  readonly watch = new DeviceWatch((note) => this.quarantines.push(note));
  readonly carrier: Carrier;
  readonly claimer: Claimer;
  isDraining = false;
  /** What getting an input from the object store does. */
  onInput: (key: string, path: string, options: GetToFileOptions) => Promise<ObjectHead> = NOT_USED;
  /** How often a claim met a full disk. */
  fullDisks = 0;
  /** Called when a claim met a full disk. */
  onSpoolFull: () => void = () => undefined;
  readonly #dir: string;
  readonly #metrics = createMetrics({ programs: ["worker"], version: "0", name: "me" });
  readonly #timers = timers();

  constructor(dir: string, spool: Spool, options: WorkerRigOptions) {
    this.#dir = dir;
    this.spool = spool;
    this.queues = new FakeQueues(options.maxStalled === undefined ? {} : { maxStalled: options.maxStalled });
    this.emitter = new FakeEmitter(this.queues);
    this.context = this.#openContext(options);
    this.keeper = new ClaimKeeper(this.context);
    this.settler = new Settler(this.context, { stop: this.stop.signal, sleep: nextTurn, random: () => 0.5 });
    this.reruns = new Reruns({
      canRun: (model) => !this.unservable.has(model),
      onWaiting: (model) => this.pokes.push(model),
      onEvict: (runner) => this.evictions.push(runner.id),
    });
    this.carrier = new Carrier(this.context, {
      keeper: this.keeper,
      settler: this.settler,
      reruns: this.reruns,
      watch: this.watch,
      onLockDoubt: () => void this.keeper.renew(),
      onSpoolFull: () => {
        this.fullDisks += 1;
        this.onSpoolFull();
      },
    });
    this.claimer = new Claimer(this.context, this.carrier, () => this.isDraining);
  }

  /** Adds a job and returns its id. */
  async add(id: string, fields: Partial<JobData> = {}): Promise<string> {
    await this.queues.add(fakeJobData(id, fields));
    return id;
  }

  runner(options: FakeRunnerOptions & { readonly id?: string; readonly manifest?: Manifest } = {}): PooledRunner & { process: FakeRunner } {
    const manifest = options.manifest ?? fakeManifest({ batch: { max: 4, by: [] } });
    const process = new FakeRunner(options);
    return { id: options.id ?? "r1", model: manifest.slug, device: CPU_DEVICE, manifest, process, loadMs: 1, loadedAt: 1, provenAt: 1 };
  }

  /** Claims what waits into one batch of a runner and closes it, as the daemon does. */
  async serve(runner: PooledRunner, max = 4): Promise<{ readonly batch: Batch; readonly done: Promise<{ readonly reusable: boolean }> }> {
    const batch = new Batch(runner, { onStage: () => undefined });
    if (!this.reruns.offer(batch)) await this.claimer.claimInto(batch, max);
    return { batch, done: batch.close() };
  }

  /** One job from its claim to the runner's hands. */
  async run(runner: PooledRunner & { process: FakeRunner }, max = 4): Promise<void> {
    await this.serve(runner, max);
    await until("the batch runs", () => runner.process.isBusy);
  }

  /** A claim that the test itself settles. */
  async hold(id: string, fields: Partial<JobData> = {}): Promise<{ readonly claim: Claim; readonly job: ReturnType<ClaimKeeper["hold"]> }> {
    await this.add(id, fields);
    const claim = await this.queues.take();
    return { claim, job: this.keeper.hold(claim) };
  }

  /** The folder of a claim, as a daemon leaves it that ends: its outputs are whole or not. */
  async leaveInSpool({ id, token, claim }: Pick<Claim, "id" | "token" | "claim">, isWhole: boolean): Promise<void> {
    const entry = await this.spool.create({ v: SPOOL_VERSION, id, queue: "fake", token, claim });
    await writeFile(join(entry.outDir, "image.png"), "picture");
    if (!isWhole) return;
    const sha256 = createHash("sha256").update("picture").digest("hex");
    const files = [{ name: "image.png", role: "main", contentType: "image/png", sizeBytes: 7, sha256 }] as const;
    const timings = { queueMs: 0, loadMs: 0, inputMs: 0, runMs: 0, encodeMs: 0 };
    await this.spool.complete(entry, { v: SPOOL_VERSION, files, seed: 1, info: {}, timings, device: "cpu:0", completedAt: 1 });
  }

  /** Claims left in the spool, `<id>/<claim>` with a star where the outputs are whole. */
  async spooled(): Promise<readonly string[]> {
    return (await this.spool.scan()).map(({ claim, complete }) => `${claim.id}/${claim.claim}${complete === null ? "" : "*"}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await until("no claim is carried any more", () => this.carrier.carrying === 0);
      this.assertNothingHeld();
    } finally {
      this.#metrics[Symbol.dispose]();
      await this.spool[Symbol.asyncDispose]();
      await rm(this.#dir, { recursive: true, force: true });
    }
  }

  /** Nothing is held, carried, waited for or timed. */
  assertNothingHeld(): void {
    assert.deepEqual(
      this.keeper.jobs.map(({ id }) => id),
      [],
      "jobs are still held",
    );
    assert.equal(this.carrier.carrying, 0, "claims are still carried");
    assert.equal(this.carrier.storing, 0, "outputs are still stored");
    assert.deepEqual(this.reruns.of("fake"), [], "jobs still wait to run again");
    assert.ok(timers() <= this.#timers, "timers are left");
    assert.deepEqual(
      this.lines.filter((line) => line.includes("this is a bug")),
      [],
    );
  }

  #openContext(options: WorkerRigOptions): WorkerContext {
    const { queues, requests, ledger, uploader, emitter, spool } = this;
    const announced = (worker: string): WorkerAnnouncement => {
      return { worker, host: "h", pid: 1, models: ["fake"], devices: [], draining: false, at: 1 };
    };
    const registry: Registry = {
      announce: async () => null,
      withdraw: async () => undefined,
      list: async () => ["me", ...this.others].map(announced),
    };
    const store: Pick<ObjectStore, "getToFile"> = { getToFile: (key, path, get) => this.onInput(key, path, get) };
    const destination = {
      write: (line: string): void => {
        const { level, msg } = JSON.parse(line) as { readonly level: string; readonly msg: string };
        this.lines.push(`${level} ${msg}`);
      },
    };
    return {
      config: readConfig({ DRYAPI_WORKER_NAME: "me", DRYAPI_MODELS: "fake", DRYAPI_STATE_DIR: this.#dir, ...options.env }),
      log: createLogger({ level: "debug", destination }),
      metrics: this.#metrics,
      queues,
      requests,
      emitter,
      registry,
      ledger,
      spool,
      uploader,
      storeSweep: { everyMs: 1, run: async () => null },
      intents: { declare: async () => true, withdraw: async () => undefined, counts: async () => new Map() },
      cancels: { nudge: async () => undefined, listen: async (_onCancel, signal) => aborted(signal) },
      store: {
        ...store,
        label: "fake",
        put: NOT_USED,
        get: NOT_USED,
        head: NOT_USED,
        delete: NOT_USED,
        deletePrefix: NOT_USED,
        removeUnfinished: NOT_USED,
        readLifecycle: NOT_USED,
        list: NOT_USED,
        presign: NOT_USED,
        check: NOT_USED,
        [Symbol.asyncDispose]: async () => undefined,
      },
      models: new FakeModels(options.models ?? [fakeManifest({ batch: { max: 4, by: [] } })]),
      runTimes: { learn: async () => undefined, of: async () => null, all: async () => new Map() },
      guardedFetch: { send: NOT_USED, download: NOT_USED, [Symbol.asyncDispose]: async () => undefined },
    };
  }
}

export async function openWorkerRig(options: WorkerRigOptions = {}): Promise<WorkerRig> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-worker-rig-"));
  const spool = await openSpool(join(dir, "spool"), { maxBytes: 2 ** 30, minFreeBytes: 0 });
  return new WorkerRig(dir, spool, options);
}

/** Waits that the test has no interest in take one turn of the event loop. */
export async function nextTurn(_ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await new Promise((resolve) => setImmediate(resolve));
  signal?.throwIfAborted();
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === "Timeout").length;
}
