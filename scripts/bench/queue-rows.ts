import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Worker } from "bullmq";
import { writePicture } from "../../src/pipelines/fake/fake-output.ts";
import { keysFor } from "../../src/protocol/keys.ts";
import { openObjectStore } from "../../src/storage/object-store.ts";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { percentile, row, type Row } from "./row.ts";

const JOBS = 1_000;

/** The queue's part: throughput of jobs that do nothing, time from add to `processing`, time from cancel to end. */
export async function queueRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const bare = await bareThroughput(system, async () => {});
  await using files = await fileWork(system);
  const bareWithFile = await bareThroughput(system, files.process);
  await using _worker = await workerOf(system);
  await system.ended("fake", await system.submit({ model: "fake" }));
  const ours = await throughput(system);
  const waits = await addToProcessing(system);
  const cancels = await cancelLatency(system);
  return [
    row({
      name: `no-op jobs a second, one at a time (bare: BullMQ Worker, ${JOBS} jobs)`,
      unit: "/s",
      ours,
      bare,
      goal: { text: ">= 50 %", met: ({ ratio }) => ratio >= 0.5 },
    }),
    row({ name: "the same over a BullMQ Worker that stores the same small file as durably", unit: "/s", ours, bare: bareWithFile }),
    row({
      name: "record and add to the client's `processing`, p50",
      unit: "ms",
      ours: percentile(waits, 50),
      goal: { text: "<= 10 ms", met: (r) => r.ours <= 10 },
    }),
    row({ name: "record and add to the client's `processing`, p95", unit: "ms", ours: percentile(waits, 95) }),
    row({ name: "cancel of a running job to its end, p50 (steps of 20 ms)", unit: "ms", ours: percentile(cancels, 50) }),
    row({ name: "cancel of a running job to its end, p95", unit: "ms", ours: percentile(cancels, 95) }),
  ];
}

async function workerOf(system: TestSystem): Promise<AsyncDisposable> {
  const worker = await system.startWorker({ DRYAPI_LOG_LEVEL: "info" });
  return { [Symbol.asyncDispose]: async () => void (await worker.stop()) };
}

/** Jobs are added first, then timed from the first claim to the last end, so that adding is not measured. */
async function throughput(system: TestSystem): Promise<number> {
  await system.client.hset(`${system.keys.prefix}:fake:meta`, "paused", "1");
  const ids = await Promise.all(Array.from({ length: JOBS }, () => system.submit({ model: "fake", timeoutMs: 600_000 })));
  await system.client.hdel(`${system.keys.prefix}:fake:meta`, "paused");
  for (const id of ids) await system.ended("fake", id);
  const views = await Promise.all(ids.map((id) => system.queues.job("fake", id)));
  const first = Math.min(...views.map((view) => view?.processedAt ?? Infinity));
  const last = Math.max(...views.map((view) => view?.finishedAt ?? 0));
  return JOBS / ((last - first) / 1_000);
}

/** What any worker with a result does: write the picture, put it into the object store, remove it. */
async function fileWork(system: TestSystem): Promise<AsyncDisposable & { readonly process: (id: string) => Promise<void> }> {
  const store = await openObjectStore(pathToFileURL(join(system.dir, "bare-objects")).href, {});
  return {
    process: async (id) => {
      const dir = join(system.dir, "bare-spool", id);
      await mkdir(dir, { recursive: true });
      const { name, contentType, sha256, sizeBytes } = writePicture(dir);
      await store.put(`outputs/${id}/1/${name}`, join(dir, name), { contentType, sha256, sizeBytes });
      await rm(dir, { recursive: true });
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

async function bareThroughput(system: TestSystem, process: (id: string) => Promise<void>): Promise<number> {
  const keys = keysFor("test");
  const ids = await Promise.all(Array.from({ length: JOBS }, () => system.submit({ model: "bare", timeoutMs: 600_000 })));
  const connection = connectRedis({ url: system.redis.url, role: "worker" });
  const startedAt = performance.now();
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = ids.length;
  const worker = new Worker("bare", (job) => process(job.id ?? ""), { connection, prefix: keys.prefix, concurrency: 1 });
  worker.on("completed", () => {
    left -= 1;
    if (left === 0) resolve();
  });
  await promise;
  const seconds = (performance.now() - startedAt) / 1_000;
  await worker.close();
  connection.disconnect();
  return JOBS / seconds;
}

/** Add and claim are stamped by two processes' samples of Redis' clock: milliseconds apart at best. What arrives here is timed here. */
async function addToProcessing(system: TestSystem): Promise<readonly number[]> {
  const waits: number[] = [];
  for (let i = 0; i < 100; i += 1) {
    const startedAt = performance.now();
    const id = await system.submit({ model: "fake" });
    await system.event((event) => event.id === id && event.type === "processing");
    waits.push(performance.now() - startedAt);
    await system.ended("fake", id);
  }
  return waits;
}

async function cancelLatency(system: TestSystem): Promise<readonly number[]> {
  const latencies: number[] = [];
  for (let i = 0; i < 20; i += 1) {
    const id = await system.submit({ model: "fake", params: { steps: 10_000, step_ms: 20 }, timeoutMs: 600_000 });
    await system.event((event) => event.id === id && event.type === "progress");
    const startedAt = performance.now();
    await system.cancel(id);
    await system.event((event) => event.id === id && event.type === "error");
    latencies.push(performance.now() - startedAt);
  }
  return latencies;
}
