import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import sharp from "sharp";
import type { Task } from "../../src/protocol/task.ts";
import { MAX_PREVIEW_BYTES, type JobEvent } from "../../src/protocol/event.ts";
import type { JobView } from "../../src/core/job-state.ts";
import { openObjectStore, type ObjectStore } from "../../src/storage/object-store.ts";
import { submitJob } from "../../src/requests/submit-job.ts";
import { FLUX_FIXTURES, largestDifference, present, readGoldens, readManifest, type Golden } from "../support/flux-rig.ts";
import { childrenOf, gone, PACED_WORKER, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const PIXEL_TOLERANCE = 2;
const SCHNELL = "tiny-flux-schnell";
const DEV = "tiny-flux-dev";
const goldens = await readGoldens();

/** A whole system, an open store, and the ways of a client: submits go the way the gateway's go, inputs into the object store. */
class FluxSystem implements AsyncDisposable {
  readonly system: TestSystem;
  readonly #store: ObjectStore;

  constructor(system: TestSystem, store: ObjectStore) {
    this.system = system;
    this.#store = store;
  }

  async submit(model: string, fields: Readonly<Record<string, unknown>>, image?: string, task: Task = "txt2img"): Promise<string> {
    const deps = { store: this.#store, requests: this.system.requests, queues: this.system.queues, index: this.system.index };
    const files = image === undefined ? [] : [{ name: "image", path: new URL(image, FLUX_FIXTURES).pathname }];
    const manifest = await readManifest(model);
    return (await submitJob(deps, { manifest, task, fields, files, client: "tester", priority: 10, timeoutMs: 600_000 })).id;
  }

  async submitGolden({ case: golden }: Golden, row: number = 0): Promise<string> {
    const { model, task, width, height, steps, guidance, strength, image } = golden;
    const shared = { prompt: present([golden.prompt].flat()[row]), seed: present([golden.seed].flat()[row]), width, height, steps };
    const features = (await readManifest(model)).features;
    const guided = features["supports_guidance"] === true ? { guidance } : {};
    return this.submit(model, { ...shared, ...guided, ...(task === "img2img" && { strength }) }, image, task);
  }

  async completed(model: string, id: string): Promise<JobView> {
    const view = await this.system.ended(model, id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    return view;
  }

  /** The stored PNG of a completed job, fetched through the store. */
  async picture(view: JobView): Promise<string> {
    const file = present(view.result?.files.find(({ name }) => name === "image.png"));
    const path = join(this.system.dir, file.key.replaceAll("/", "-"));
    await this.#store.getToFile(file.key, path, { maxBytes: file.sizeBytes, sha256: file.sha256 });
    return path;
  }

  async assertGolden(golden: Golden, id: string, row: number = 0): Promise<string> {
    const path = await this.picture(await this.completed(golden.case.model, id));
    const pixels = await sharp(path).removeAlpha().raw().toBuffer();
    const difference = largestDifference(pixels, present(golden.pictures[row]));
    assert.ok(difference <= PIXEL_TOLERANCE, `picture ${row} of ${golden.name} differs by ${difference}`);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.system[Symbol.asyncDispose]();
    await this.#store[Symbol.asyncDispose]();
  }
}

async function startFlux(env: Record<string, string> = {}): Promise<FluxSystem> {
  const system = await startSystem(env, PACED_WORKER);
  return new FluxSystem(system, await openObjectStore(present(system.env["DRYAPI_STORE"])));
}

function goldenNamed(wanted: string): Golden {
  return present(goldens.find(({ name }) => name === wanted));
}

async function metadataOf(path: string): Promise<Record<string, string>> {
  const { comments } = await sharp(path).metadata();
  return Object.fromEntries(present(comments).map(({ keyword, text }) => [keyword, text]));
}

describe("a worker with Flux", () => {
  let flux: FluxSystem;
  let system: TestSystem;
  let worker: WorkerProcess;

  before(async () => {
    flux = await startFlux();
    ({ system } = flux);
  });
  after(() => flux[Symbol.asyncDispose]());

  test("two jobs that wait and agree run as one batch, each equal to its golden", async () => {
    const golden = goldenNamed("schnell-batch");
    const ids = [await flux.submitGolden(golden, 0), await flux.submitGolden(golden, 1)];
    worker = await system.startWorker();
    for (const [row, id] of ids.entries()) await flux.assertGolden(golden, id, row);
    await system.event(({ id, type }) => id === ids[1] && type === "done");
    const begun = system.events.findIndex(({ id, type }) => id === ids[1] && type === "processing");
    const told = system.events.findIndex(({ id, type }) => id === ids[0] && type === "progress");
    assert.ok(begun >= 0 && told > begun, `the second began at event ${begun}, the first told of its first stage at ${told}`);
    assert.equal((await childrenOf(worker.pid)).length, 1);
  });

  test("txt2img equals the golden, and its PNG says how it was made", async () => {
    const golden = goldenNamed("schnell-192x128-6");
    const path = await flux.assertGolden(golden, await flux.submitGolden(golden));
    assert.deepEqual(await metadataOf(path), {
      prompt: golden.case.prompt,
      model: SCHNELL,
      seed: String(golden.case.seed),
      steps: "6",
      size: "192x128",
    });
  });

  test("img2img from a stored input equals the golden; alternatives are stored beside it", async () => {
    const golden = goldenNamed("dev-img2img-60");
    const id = await flux.submitGolden(golden);
    const path = await flux.assertGolden(golden, id);
    const metadata = await metadataOf(path);
    assert.equal(metadata["strength"], "0.6");
    assert.equal(metadata["guidance"], "7");
    assert.deepEqual((await system.objects(`outputs/${id}/1`)).toSorted(), ["image.jpg", "image.png", "image.webp"]);
    assert.equal((await childrenOf(worker.pid)).length, 2, "each model has a runner of its own");
  });

  test("a job tells its stages, its steps and previews that are pictures, in order", async () => {
    // How often is the rate limits' business: core/rate-gate.test.ts, runner/run-context.test.ts, worker/claims/job-relay.test.ts.
    using third = system.stage("denoise", 3);
    const id = await flux.submit(SCHNELL, { prompt: "a slow one", width: 512, height: 512, steps: 4, seed: 1 });
    await system.event((event) => event.id === id && event.stage === "denoise" && event.step === 2 && event.steps === 4);
    await system.event((event) => event.id === id && event.type === "preview");
    third.open();
    await system.event((event) => event.id === id && event.type === "done");
    const events = system.events.filter((event) => event.id === id);
    assert.equal(events[0]?.type, "processing");
    assert.equal(events.at(-1)?.type, "done");
    assert.equal(events.at(-1)?.progress, 100);
    const progress = events.map((event) => event.progress);
    assert.deepEqual(
      progress,
      progress.toSorted((a, b) => a - b),
      "progress never falls",
    );
    for (const event of events) if (event.type === "preview") await assertPreview(event);
  });

  test("SIGTERM: exit 0, no child is left", async () => {
    const children = await childrenOf(worker.pid);
    assert.equal(children.length, 2);
    assert.equal(await worker.stop(), 0);
    for (const pid of children) await gone(pid);
    await system.spoolEmpty();
  });
});

test("two models that do not fit at once take turns: a stream of one does not starve the other", async () => {
  // Memory for one of them only.
  const reserve = Math.floor(machineBytes() - 2_000_000_000);
  await using flux = await startFlux({ DRYAPI_DEVICE_RESERVE_BYTES: String(reserve), DRYAPI_STARVATION_MS: "1s" });
  const { system } = flux;
  const stream: string[] = [];
  // Neighbours differ in their size: no two of them make a batch.
  const feed = async (): Promise<void> => {
    const seed = stream.length;
    stream.push(await flux.submit(SCHNELL, { prompt: "many", width: 128 + 16 * (seed % 2), height: 128, steps: 2, seed }));
  };
  for (let waiting = 0; waiting < 6; waiting += 1) await feed();
  const worker = await system.startWorker();
  await system.event((event) => event.type === "processing");
  const other = await flux.submit(DEV, { prompt: "the other", width: 128, height: 128, steps: 2, seed: 1 });
  const isEnd = ({ id, type }: JobEvent): boolean => id === other && type === "done";
  const served = system.event(isEnd);
  // The stream lasts until the other has had its turn, however fast it is.
  for (let next = 0; !system.events.some(isEnd); next += 1) {
    await Promise.race([served, flux.completed(SCHNELL, stream[next] ?? "")]);
    await feed();
  }
  await flux.completed(DEV, other);
  for (const id of stream) await flux.completed(SCHNELL, id);
  assert.equal(
    worker.lines.some(({ msg, reason }) => msg === "runner stopped" && reason === "evict"),
    true,
    "they did not fit at once",
  );
  const children = await childrenOf(worker.pid);
  assert.equal(await worker.stop(), 0);
  for (const pid of children) await gone(pid);
});

test("a model that does not fit as a whole runs by turns, and its result says what that cost", async () => {
  // Between the largest stage and all of it, by the manifest and the files.
  await using flux = await startFlux({ DRYAPI_DEVICE_BUDGET: "1299600000" });
  const { system } = flux;
  const worker = await system.startWorker();
  const golden = goldenNamed("schnell-192x128-6");
  const id = await flux.submitGolden(golden);
  await flux.assertGolden(golden, id);
  const { result } = await flux.completed(SCHNELL, id);
  const { wakeMs, parkMs, runMs } = present(result?.timings);
  assert.ok(wakeMs !== undefined && parkMs !== undefined && wakeMs <= runMs, JSON.stringify(result?.timings));
  assert.ok(worker.lines.some(({ msg, byTurnsIn }) => msg === "model loaded" && byTurnsIn === "1.21 GiB"));
  assert.ok(system.events.some((event) => event.id === id && event.stage === "denoise"));
  assert.equal(await worker.stop(), 0);
});

function machineBytes(): number {
  // As the worker reckons (src/worker/devices/devices.ts).
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

async function assertPreview({ preview, step }: JobEvent): Promise<void> {
  const jpeg = Buffer.from(present(preview), "base64");
  assert.ok(jpeg.length <= MAX_PREVIEW_BYTES, `the preview of step ${step} has ${jpeg.length} bytes`);
  const { format, width, height } = await sharp(jpeg).metadata();
  assert.equal(format, "jpeg");
  assert.ok(width > 0 && width === height, `${width}x${height}`);
}
