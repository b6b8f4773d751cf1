import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import sharp from "sharp";
import type { Task } from "../../src/protocol/task.ts";
import { MAX_PREVIEW_BYTES, MAX_PREVIEWS_PER_SECOND, type JobEvent } from "../../src/protocol/event.ts";
import type { JobView } from "../../src/core/job-state.ts";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { openObjectStore, type ObjectStore } from "../../src/storage/object-store.ts";
import { submitJob } from "../../src/requests/submit-job.ts";
import { startEventLoopDelay } from "../../src/telemetry/event-loop-delay.ts";
import { FLUX_FIXTURES, largestDifference, present, readGoldens, readManifest, type Golden } from "../support/flux-rig.ts";
import { childrenOf, gone, startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const PIXEL_TOLERANCE = 2;
const MAX_LOOP_DELAY_S = 0.02;
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
    return (await submitJob(deps, { manifest, task, fields, files, client: "tester", priority: 10, timeoutMs: 60_000 })).id;
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
  const system = await startSystem(env);
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

  test("a job tells its stages, steps and previews in order and at its rate", async () => {
    const { arrivals, ids } = await recordArrivals(system, async () => {
      // The first runs alone, those that wait meanwhile as a batch: slow enough for several previews of each.
      const made = await Promise.all(
        [1, 2, 3, 4, 5].map((seed) => flux.submit(SCHNELL, { prompt: "a slow one", width: 512, height: 512, steps: 10, seed })),
      );
      for (const id of made) await system.event((event) => event.id === id && event.type === "done");
      return made;
    });
    const counts = await Promise.all(ids.map((id) => assertStory(arrivals.filter(({ event }) => event.id === id))));
    assert.ok(Math.max(...counts) >= 2, `previews of each job: ${counts.join(", ")}`);
  });

  test("the daemon's event loop is at p99 less than 20 ms late while Flux runs at 512x512", async () => {
    // Our own idle loop stands for what the rest of the machine does to anybody. Moments are what they are: the best of three counts.
    using control = startEventLoopDelay();
    const seen: string[] = [];
    let least = Infinity;
    for (let round = 1; round <= 3 && least >= MAX_LOOP_DELAY_S; round++) {
      control.takeSeconds();
      await eventLoopP99(worker);
      const params = { prompt: `round ${round}`, width: 512, height: 512, steps: 10 };
      const ids = await Promise.all([1, 2, 3, 4].map((seed) => flux.submit(SCHNELL, { ...params, seed })));
      for (const id of ids) await system.event((event) => event.id === id && event.type === "done");
      const [ours, idle] = [await eventLoopP99(worker), control.takeSeconds().p99];
      least = Math.min(least, ours - idle);
      seen.push(`${ours} s (an idle process: ${idle} s)`);
    }
    assert.ok(least < MAX_LOOP_DELAY_S, `p99 of the event loop's delay: ${seen.join(", ")}`);
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
  const big = { prompt: "many", width: 512, height: 512, steps: 4 };
  // Different sizes, so that no two of them make a batch and the stream lasts.
  const many = await Promise.all(
    Array.from({ length: 8 }, (_, i) =>
      flux.submit(SCHNELL, { ...big, width: 512 - 16 * (i % 4), height: 512 - 16 * Math.floor(i / 4), seed: i }),
    ),
  );
  const worker = await system.startWorker();
  await system.event((event) => event.type === "processing");
  const other = await flux.submit(DEV, { prompt: "the other", width: 128, height: 128, steps: 2, seed: 1 });
  for (const id of many) await flux.completed(SCHNELL, id);
  await flux.completed(DEV, other);
  const doneAt = (id: string): number => system.events.findIndex((event) => event.id === id && event.type === "done");
  await system.event(({ id, type }) => id === many.at(-1) && type === "done");
  await system.event(({ id, type }) => id === other && type === "done");
  assert.ok(doneAt(other) < Math.max(...many.map(doneAt)), "the other model was served before the stream had ended");
  assert.equal(
    worker.lines.some(({ msg, reason }) => msg === "runner stopped" && reason === "evict"),
    true,
    "they did not fit at once",
  );
  const children = await childrenOf(worker.pid);
  assert.equal(await worker.stop(), 0);
  for (const pid of children) await gone(pid);
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

interface Arrival {
  /** ms */
  readonly at: number;
  readonly event: JobEvent;
}

/** What one job of ten steps tells, from its start to its end. Returns how many previews came. */
async function assertStory(arrivals: readonly Arrival[]): Promise<number> {
  const events = arrivals.map(({ event }) => event);
  assert.equal(events[0]?.type, "processing");
  assert.equal(events.at(-1)?.type, "done");
  assert.equal(events.at(-1)?.progress, 100);
  const progress = events.map((event) => event.progress);
  assert.deepEqual(
    progress,
    progress.toSorted((a, b) => a - b),
    "progress never falls",
  );
  assert.ok(events.some(({ stage, step, steps }) => stage === "denoise" && (step ?? 0) > 1 && steps === 10));
  const previews = arrivals.filter(({ event }) => event.type === "preview");
  assert.ok(previews.length > 0);
  for (const { event } of previews) await assertPreview(event);
  for (const [i, { at }] of previews.entries()) {
    const later = previews[i + MAX_PREVIEWS_PER_SECOND];
    // 100 ms: what lies between the worker's send and our arrival may differ from one event to the next.
    if (later !== undefined) assert.ok(later.at - at >= 900, `five previews within ${later.at - at} ms`);
  }
  return previews.length;
}

/** What arrives on the client's channel meanwhile. */
async function recordArrivals(
  system: TestSystem,
  work: () => Promise<readonly string[]>,
): Promise<{ readonly arrivals: readonly Arrival[]; readonly ids: readonly string[] }> {
  const arrivals: Arrival[] = [];
  const subscriber = connectRedis({ url: system.redis.url, role: "subscriber" });
  try {
    subscriber.on("message", (_channel, text: string) => arrivals.push({ at: performance.now(), event: JSON.parse(text) as JobEvent }));
    await subscriber.subscribe(system.keys.events("tester"));
    return { ids: await work(), arrivals };
  } finally {
    subscriber.disconnect();
  }
}

async function eventLoopP99(worker: WorkerProcess): Promise<number> {
  const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
  return Number(present(/^dryapi_event_loop_delay_seconds\{quantile="0\.99"\} (.+)$/m.exec(metrics)?.[1]));
}
