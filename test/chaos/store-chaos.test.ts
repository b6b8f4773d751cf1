import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openObjectStore, type ObjectStore } from "../../src/storage/object-store.ts";
import type { Gate } from "../support/pace.ts";
import { startSwift, type Swift } from "../support/swift.ts";
import { childrenOf, startSystem, type LogLine, type TestSystem, type WorkerProcess } from "../support/system.ts";

const BUCKET = "results";

/** One real S3 server for all tests: it takes seconds to start. Each test has its own system and ids. */
describe("a worker whose object store is S3", () => {
  let swift: Swift;
  let store: ObjectStore;

  before(async () => {
    swift = await startSwift();
    await swift.makeBucket(BUCKET);
    store = await openObjectStore(swift.urlOf(BUCKET), { credentials: swift.credentials });
  });
  after(async () => {
    await store[Symbol.asyncDispose]();
    await swift[Symbol.asyncDispose]();
  });

  async function startOnS3(env: Record<string, string> = {}): Promise<TestSystem> {
    return startSystem({
      DRYAPI_STORE: swift.urlOf(BUCKET),
      AWS_ACCESS_KEY_ID: swift.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: swift.credentials.secretAccessKey,
      // "the runner reported the job done" is a line of this level: it counts the runs.
      DRYAPI_LOG_LEVEL: "debug",
      ...env,
    });
  }

  async function keysOf(id: string): Promise<readonly string[]> {
    const keys: string[] = [];
    for await (const { key } of store.list(`outputs/${id}/`)) keys.push(key);
    return keys;
  }

  /** A job that is held in its first step until the gate opens. */
  async function submitHeld(system: TestSystem, gate: Gate): Promise<string> {
    const id = await system.submit({ model: "fake", params: { steps: 1, fault: gate.fault } });
    await system.event((event) => event.id === id && event.stage === "denoise");
    return id;
  }

  /** Submits a job, and takes the store away while it runs. Resolves when its first upload has failed. */
  async function losesTheStore(system: TestSystem, worker: WorkerProcess): Promise<string> {
    using gate = system.gate();
    const id = await submitHeld(system, gate);
    await swift.down();
    gate.open();
    await worker.line((line) => line.msg === "upload failed; tried again" && String(line["key"]).includes(id));
    return id;
  }

  async function isStoredOnce(system: TestSystem, id: string, claim: number): Promise<void> {
    const view = await system.ended("fake", id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    assert.equal(view.result?.claim, claim);
    assert.deepEqual(
      view.result?.files.map(({ key }) => key),
      [`outputs/${id}/${claim}/image.png`],
    );
    await system.event((event) => event.id === id && event.type === "done");
    assert.equal(system.events.filter((event) => event.id === id && event.type === "done").length, 1, "done is told once");
    await system.spoolEmpty();
    let keys: readonly string[] = [];
    const isAlone = async (): Promise<true | undefined> => {
      keys = await keysOf(id);
      return keys.length === 1 && keys[0] === `outputs/${id}/${claim}/image.png` ? true : undefined;
    };
    // What an earlier claim left goes just after the end of the job.
    await system.until(`only the object of claim ${claim}`, isAlone, () => keys);
  }

  test("a job ends with its picture in the bucket", async () => {
    await using system = await startOnS3();
    const worker = await system.startWorker();
    const id = await system.submit({ model: "fake", params: { steps: 2 } });
    await isStoredOnce(system, id, 1);
    const head = await store.head(`outputs/${id}/1/image.png`);
    assert.equal(head?.contentType, "image/png");
    assert.equal(runsOf(worker.lines, id), 1);
  });

  /** Resolves once the worker has said that it claims nothing, and why. */
  async function stopsClaiming(worker: WorkerProcess): Promise<void> {
    await worker.line(({ msg }) => msg.startsWith("no more jobs are claimed: the object store takes no writes"));
    const ready = await fetch(`${worker.admin}/readyz`);
    const { checks } = (await ready.json()) as { readonly checks: Record<string, { readonly ok: boolean; readonly detail?: string }> };
    assert.deepEqual([ready.status, checks["store"]?.ok], [503, false]);
    assert.match(checks["store"]?.detail ?? "", /takes no writes/);
    assert.match(checks["claims"]?.detail ?? "", /paused: store/);
    assert.equal((await fetch(`${worker.admin}/healthz`)).status, 200, "nothing outside the process gets it restarted");
  }

  test("the store away at a job's end: nothing more is claimed, and no run is repeated; both results come with the store", async () => {
    await using system = await startOnS3();
    const worker = await system.startWorker();
    const id = await losesTheStore(system, worker);
    await stopsClaiming(worker);
    const next = await system.submit({ model: "fake", params: { steps: 2 } });
    // It looks at its queues and at the store meanwhile: a look that found the store away came after the job was there.
    await worker.line((line) => line.msg === "upload failed; tried again" && Number(line["attempt"]) > 2);
    assert.equal(await system.state("fake", id), "active", "it is held until its file is stored");
    assert.equal(await system.state("fake", next), "waiting");
    const metrics = await (await fetch(`${worker.admin}/metrics`)).text();
    assert.match(metrics, /dryapi_uploads_waiting 1/);
    assert.match(metrics, /dryapi_upload_retries_total\{code="STORAGE_UNAVAILABLE"\} [1-9]/);
    await swift.up();
    await isStoredOnce(system, id, 1);
    await isStoredOnce(system, next, 1);
    assert.deepEqual(
      [id, next].map((job) => runsOf(worker.lines, job)),
      [1, 1],
    );
  });

  test("the store away at a job's end: a cancel ends it at once", async () => {
    await using system = await startOnS3();
    const worker = await system.startWorker();
    const unwanted = await losesTheStore(system, worker);
    await system.cancel(unwanted);
    const cancelled = await system.ended("fake", unwanted);
    assert.equal(cancelled.state, "failed");
    assert.match(cancelled.failedReason ?? "", /"CANCELLED"/);
    await system.event((event) => event.id === unwanted && event.errorCode === "CANCELLED");
    await swift.up();
    assert.deepEqual(await keysOf(unwanted), []);
  });

  test("the store away at the start: the worker starts, claims nothing, and goes on by itself when it is back", async () => {
    await using system = await startOnS3();
    await swift.down();
    const worker = await system.startWorker();
    await stopsClaiming(worker);
    const id = await system.submit({ model: "fake", params: { steps: 1 } });
    await swift.up();
    await worker.line(({ msg }) => msg === "the object store takes writes again");
    await isStoredOnce(system, id, 1);
  });

  test("a bucket that is not there: exit 3 at the start, with the name of the bucket and what to do", async () => {
    await using system = await startOnS3({ DRYAPI_STORE: swift.urlOf("no-such-bucket") });
    const worker = system.spawnWorker();
    let said = "";
    worker.process.stderr?.on("data", (text: string) => (said += text));
    const code = await new Promise<number | null>((resolve) => worker.process.once("close", (ended: number | null) => resolve(ended)));
    assert.equal(code, 3, said);
    assert.match(said, /no-such-bucket.* takes no writes: .*; give this program the right to write/);
  });

  test("kill -9 and SIGTERM while an upload waits: the next daemon stores it from the spool, the job does not run again", async () => {
    await using system = await startOnS3();
    const first = await system.startWorker();
    const id = await losesTheStore(system, first);
    await first.kill9();
    const second = await system.startWorker();
    await second.line((line) => line["job"] === id && line.msg.startsWith("outputs of an earlier daemon are in the spool"));
    await second.line((line) => line.msg === "upload failed; tried again");
    assert.equal(await second.stop(), 0);
    await swift.up();
    const third = await system.startWorker();
    await isStoredOnce(system, id, 1);
    assert.deepEqual(
      [first, second, third].map(({ lines }) => runsOf(lines, id)),
      [1, 0, 0],
    );
    assert.deepEqual(await childrenOf(third.pid), [], "it loaded no model for it");
  });

  test("uploaded but not completed when the daemon dies, and taken up too late: a later claim stores it anew, the first claim's object goes", async () => {
    await using system = await startOnS3();
    const first = await system.startWorker();
    using gate = system.gate();
    const id = await submitHeld(system, gate);
    // Without Redis the file goes up, and completing waits.
    await system.killRedis();
    gate.open();
    await system.until(
      "the object of the first claim",
      async () => ((await keysOf(id)).length > 0 ? true : undefined),
      () => first.lines.slice(-5),
    );
    await first.kill9();
    await system.restartRedis();
    // As if its lock had expired before anybody took up the spool: the job is queued again.
    await system.until("Redis to be back", () =>
      system.client.del(system.keys.lock("fake", id)).then(
        () => true as const,
        () => undefined,
      ),
    );
    await system.until("the job to be waiting again", async () => {
      // Our own connection comes back in its time.
      await system.queues.recoverStalled().catch(() => undefined);
      return (await system.state("fake", id).catch(() => null)) === "waiting" ? true : undefined;
    });
    const second = await system.startWorker();
    await isStoredOnce(system, id, 2);
    assert.equal(runsOf(second.lines, id), 0, "outputs in the spool are used");
  });
});

function isRunOf(line: LogLine, id: string): boolean {
  return line["job"] === id && line.msg === "the runner reported the job done";
}

function runsOf(lines: readonly LogLine[], id: string): number {
  return lines.filter((line) => isRunOf(line, id)).length;
}
