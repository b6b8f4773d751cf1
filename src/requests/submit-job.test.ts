import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { test, type TestContext } from "node:test";
import { RedisError, redisFailure } from "../core/redis-failure.ts";
import type { RedisStep } from "../lib/redis-step.ts";
import { AppError } from "../protocol/error.ts";
import { parseJobData, type JobData } from "../protocol/job.ts";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import type { RequestRecord } from "../protocol/request.ts";
import { openObjectStore, type ObjectStore } from "../storage/object-store.ts";
import { submitJob, type SubmitDeps, type SubmitRequest } from "./submit-job.ts";

const PNG = Buffer.from("89504e470d0a1a0a0000000d49484452", "hex");

const MANIFEST: Manifest = parseManifest(
  {
    version: 1,
    slug: "tiny",
    name: "Tiny",
    family: "fake",
    tasks: ["txt2img", "img2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "test" },
    limits: { min_steps: 1, max_steps: 8 },
    defaults: { steps: 4 },
    memoryBytes: { cpu: 1 },
  },
  "test",
);

interface Rig extends SubmitDeps {
  readonly dir: string;
  readonly store: ObjectStore;
  /** What happened, in order. */
  readonly log: string[];
  readonly records: RequestRecord[];
  readonly jobs: JobData[];
}

async function createRig(t: TestContext): Promise<Rig> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-submit-"));
  t.after(() => rm(dir, { recursive: true }));
  const log: string[] = [];
  const records: RequestRecord[] = [];
  const jobs: JobData[] = [];
  const requests = {
    now: async () => 1_000,
    create: async (record: RequestRecord) => {
      log.push("record");
      if (records.some(({ id }) => id === record.id)) return false;
      return records.push(record) > 0;
    },
    creation: (record: RequestRecord): RedisStep => ({ lua: "", keys: [], args: [JSON.stringify(record)] }),
    get: async (id: string) => records.find((record) => record.id === id) ?? null,
  };
  const add = async (data: JobData, { priority }: { readonly priority: number }): Promise<void> => {
    log.push(`job with priority ${priority}`);
    jobs.push(data);
  };
  const queues = {
    add,
    addRecorded: async ({ args }: RedisStep, data: JobData, options: { readonly priority: number }) => {
      await requests.create(JSON.parse(String(args[0])) as RequestRecord);
      await add(data, options);
      return null;
    },
  };
  return {
    dir,
    store: await openObjectStore(pathToFileURL(join(dir, "store")).href),
    requests,
    queues,
    index: { queued: () => void log.push("queued") },
    log,
    records,
    jobs,
  };
}

const request = (change: Partial<SubmitRequest>): SubmitRequest => ({
  manifest: MANIFEST,
  task: "txt2img",
  fields: { prompt: "fox", width: "64", height: "64" },
  files: [],
  client: "local",
  priority: 10,
  timeoutMs: 60_000,
  ...change,
});

async function keysIn(store: ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list("inputs/")) keys.push(key);
  return keys;
}

test("the record is written before the job, and both say the same", async (t) => {
  const rig = await createRig(t);
  const submitted = await submitJob(rig, request({ fields: { prompt: "fox", width: "64", height: "64", seed: "-1" } }));
  assert.deepEqual(rig.log, ["record", "job with priority 10", "queued"]);
  const [job] = rig.jobs;
  const [record] = rig.records;
  assert.ok(job && record);
  assert.deepEqual(parseJobData(job), job);
  assert.equal(job.id, submitted.id);
  assert.deepEqual(record.params, job.params);
  assert.equal(record.queue, "tiny");
  assert.equal(record.createdAt, 1_000);
  assert.equal(record.startedAt, null);
  const { seed, steps } = job.params;
  assert.equal(steps, 4);
  assert.ok(typeof seed === "number" && seed >= 0 && seed < 2 ** 32, "the seed is resolved at submit");
});

test("an input image is stored under the request's id with its real type and sha256", async (t) => {
  const rig = await createRig(t);
  const path = join(rig.dir, "fox.jpg");
  await writeFile(path, PNG);
  const { id } = await submitJob(rig, request({ task: "img2img", fields: { prompt: "fox" }, files: [{ name: "image", path }] }));
  const input = rig.jobs[0]?.inputs[0];
  assert.partialDeepStrictEqual(input, { name: "image", key: `inputs/${id}/0.png`, contentType: "image/png", sizeBytes: PNG.length });
  assert.deepEqual(await keysIn(rig.store), [`inputs/${id}/0.png`]);
});

function redisErrorOf(text: string): RedisError {
  const failure = redisFailure(text);
  assert.ok(failure !== null);
  return new RedisError("a write", failure, new Error(text));
}

function redisFails(text: string): () => Promise<never> {
  return async () => Promise.reject(redisErrorOf(text));
}

test("what Redis refuses to record leaves no input behind; what it did not answer may be recorded, and keeps them", async (t) => {
  for (const [text, left] of [
    ["OOM command not allowed when used memory > 'maxmemory'", 0],
    ["READONLY You can't write against a read only replica", 0],
    ["Command timed out", 1],
  ] as const) {
    const rig = await createRig(t);
    const path = join(rig.dir, "fox.png");
    await writeFile(path, PNG);
    const queues = { ...rig.queues, addRecorded: redisFails(text) };
    await assert.rejects(
      submitJob({ ...rig, queues }, request({ task: "img2img", fields: { prompt: "fox" }, files: [{ name: "image", path }] })),
      RedisError,
    );
    assert.equal((await keysIn(rig.store)).length, left, text);
    assert.deepEqual(rig.jobs, []);
  }
});

test("a request that is recorded is accepted where it will be repaired, though its job cannot be added now", async (t) => {
  const rig = await createRig(t);
  const oom = "OOM command not allowed";
  const addRecorded: SubmitDeps["queues"]["addRecorded"] = async (first, data, options) => {
    await rig.queues.addRecorded(first, data, options);
    rig.jobs.pop();
    rig.log.pop();
    return redisErrorOf(oom);
  };
  const queues = { add: redisFails(oom), addRecorded };
  const told: string[] = [];
  const { id } = await submitJob({ ...rig, queues, onUnqueued: (request, error) => told.push(request, error.code) }, request({}));
  assert.deepEqual(told, [id, "REDIS_UNAVAILABLE"]);
  assert.deepEqual([rig.records.map((record) => record.id), rig.log], [[id], ["record"]], "it is not marked as queued");
  const shared = await submitJob({ ...rig, queues, onUnqueued: (shared) => told.push(shared) }, request({ isShared: true }));
  assert.equal(told.at(-1), shared.id, "also where the two are written one after the other");
  await assert.rejects(submitJob({ ...rig, queues }, request({})), RedisError, "nobody repairs what a command line submits");
  const broken = { ...queues, addRecorded: async () => new AppError("INTERNAL", "a bug") };
  await assert.rejects(
    submitJob({ ...rig, queues: broken, onUnqueued: () => assert.fail("a bug is no trouble of Redis") }, request({})),
    AppError,
  );
});

test("a bad parameter is refused with every problem named, and nothing is stored", async (t) => {
  const rig = await createRig(t);
  await assert.rejects(
    () => submitJob(rig, request({ fields: { width: "64", height: "64", steps: "99" } })),
    (thrown) =>
      thrown instanceof AppError && thrown.code === "INVALID_INPUT" && /prompt/.test(thrown.message) && /steps/.test(thrown.message),
  );
  assert.deepEqual(rig.log, []);
});

test("an unreadable second image takes the first one away again", async (t) => {
  const rig = await createRig(t);
  const good = join(rig.dir, "a.png");
  const bad = join(rig.dir, "b.png");
  await writeFile(good, PNG);
  await writeFile(bad, "no image");
  const manifest = { ...MANIFEST, limits: { ...MANIFEST.limits, max_input_images: 2 } };
  const files = [
    { name: "images[0]", path: good },
    { name: "images[1]", path: bad },
  ];
  await assert.rejects(
    () => submitJob(rig, request({ manifest, task: "img2img", fields: { prompt: "fox" }, files })),
    (thrown) => thrown instanceof AppError && thrown.code === "IMAGE_UNREADABLE" && thrown.message.includes(bad),
  );
  assert.deepEqual(await keysIn(rig.store), []);
  assert.deepEqual(rig.log, []);
});

test("a missing file is named", async (t) => {
  const rig = await createRig(t);
  await assert.rejects(
    () => submitJob(rig, request({ task: "img2img", fields: { prompt: "fox" }, files: [{ name: "image", path: "/nowhere/fox.png" }] })),
    /image: \/nowhere\/fox\.png cannot be read/,
  );
});

test("of two submits under one id the first record counts, for both jobs", async (t) => {
  const rig = await createRig(t);
  const twice = { id: "00000000-0000-4000-8000-000000000001", isShared: true };
  const [first, second] = [await submitJob(rig, request(twice)), await submitJob(rig, request(twice))];
  assert.equal(rig.records.length, 1);
  assert.deepEqual(rig.jobs[1], rig.jobs[0], "the same seed");
  assert.deepEqual(second, first);
});

test("inputs that another submit may have stored stay when a later one fails", async (t) => {
  const rig = await createRig(t);
  const good = join(rig.dir, "a.png");
  await writeFile(good, PNG);
  const manifest = { ...MANIFEST, limits: { ...MANIFEST.limits, max_input_images: 2 } };
  const files = [good, "/nowhere/b.png"].map((path, index) => ({ name: `images[${index}]`, path }));
  const id = "00000000-0000-4000-8000-000000000002";
  await assert.rejects(() => submitJob(rig, request({ id, isShared: true, manifest, task: "img2img", fields: { prompt: "fox" }, files })));
  assert.deepEqual(await keysIn(rig.store), [`inputs/${id}/0.png`]);
});
