import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import type { FakeRunner } from "../../../test/support/fake-runner.ts";
import { openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { Batch } from "../runners/batch.ts";
import { handedBack } from "./held-job.ts";

const ID = "request-1";
const INPUT = { name: "image", key: `inputs/${ID}/0`, contentType: "image/png", sizeBytes: 3, sha256: "a".repeat(64) };

/** Ends a runner's batch: all its jobs are done. */
async function finish(runner: { readonly process: FakeRunner }): Promise<void> {
  const { batch } = runner.process;
  await Promise.all(batch.jobs.map(({ id }) => batch.done(id)));
  batch.end();
}

function isSettled(rig: WorkerRig): Promise<void> {
  return until("every claim is settled", () => rig.carrier.carrying === 0);
}

test("a job goes from its claim to its end: told, stored, completed, gone from the spool", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  assert.deepEqual(await rig.spooled(), [`${ID}/1`]);
  assert.equal(rig.keeper.holds(ID), true);
  await finish(runner);
  await isSettled(rig);
  assert.deepEqual(rig.queues.verbsOf(ID), [`complete ${ID}#1`]);
  assert.deepEqual(rig.emitter.of(ID), ["processing", "done"]);
  assert.deepEqual([...rig.uploader.stored], [`outputs/${ID}/1/image.png`]);
  assert.deepEqual(await rig.spooled(), []);
});

test("a runner that ends between the announcement and the dispatch: the job runs on the next one, under the same claim", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const dying = rig.runner();
  rig.requests.onStart = () => dying.process.crash();
  const { done } = await rig.serve(dying);
  assert.deepEqual(await done, { reusable: false });
  await until("the job waits to run again", () => rig.reruns.of("fake").length === 1);
  assert.deepEqual(rig.pokes, ["fake"], "the scheduler is asked to look");
  rig.requests.onStart = () => assert.fail("it was announced twice");
  const next = rig.runner({ id: "r2" });
  await rig.run(next);
  assert.equal(rig.queues.entry(ID).claim, 1);
  await finish(next);
  await isSettled(rig);
  assert.deepEqual(rig.queues.verbsOf(ID), [`complete ${ID}#1`]);
  assert.deepEqual(rig.emitter.of(ID), ["processing", "done"]);
});

test("a job that waits to run again can be cancelled", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const dying = rig.runner();
  rig.requests.onStart = () => dying.process.crash();
  await rig.serve(dying);
  await until("the job waits to run again", () => rig.reruns.of("fake").length === 1);
  rig.keeper.cancel(ID);
  await isSettled(rig);
  assert.deepEqual(rig.queues.verbsOf(ID), [`fail ${ID}#1`]);
  assert.equal(rig.queues.entry(ID).error?.code, "CANCELLED");
});

test("a job that waits to run again ends with its time limit", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID, { timeoutMs: 1_000 });
  const dying = rig.runner();
  rig.requests.onStart = () => dying.process.crash();
  // It was first started by an earlier claim: nothing is left of its time, once the start is known.
  rig.requests.elapsedMs = 1_000;
  await rig.serve(dying);
  await isSettled(rig);
  assert.equal(rig.queues.entry(ID).error?.code, "JOB_TIMEOUT");
});

test("of several claims one meets a spool without file descriptors: it is settled, the others run", async (t) => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2", "request-3"]) await rig.add(id);
  const create = rig.spool.create.bind(rig.spool);
  t.mock.method(rig.spool, "create", (claim: Parameters<typeof create>[0]) =>
    claim.id === "request-2" ? Promise.reject(Object.assign(new Error("EMFILE: too many open files"), { code: "EMFILE" })) : create(claim),
  );
  const runner = rig.runner();
  await rig.run(runner);
  assert.deepEqual(
    runner.process.batch.jobs.map(({ id }) => id),
    ["request-1", "request-3"],
  );
  await until("the one is settled", () => rig.queues.verbsOf("request-2").length > 0);
  assert.deepEqual(rig.queues.verbsOf("request-2"), ["retry request-2#1"]);
  await finish(runner);
  await isSettled(rig);
  assert.equal(rig.queues.entry("request-1").state, "completed");
  assert.equal(rig.queues.entry("request-3").state, "completed");
});

test("an emitter that throws costs events and no job", async () => {
  await using rig = await openWorkerRig();
  rig.emitter.onEmit = () => {
    throw new TypeError("an event that cannot be encoded");
  };
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  runner.process.batch.event({ type: "preview", id: ID, jpeg: new Uint8Array(3), step: 1 });
  await finish(runner);
  await isSettled(rig);
  assert.equal(rig.queues.entry(ID).state, "completed");
});

test("when handing a batch to its runner throws, all its members are settled", async (t) => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  const runner = rig.runner();
  t.mock.method(runner.process, "runBatch", () => Promise.reject(new Error("EMFILE: no descriptor for the channel")));
  const { done } = await rig.serve(runner);
  assert.deepEqual(await done, { reusable: false });
  await until("both wait to run again, each alone", () => rig.reruns.of("fake").length === 2);
  for (const id of ["r2", "r3"]) {
    const alone = rig.runner({ id });
    t.mock.method(alone.process, "runBatch", () => Promise.reject(new Error("EMFILE: no descriptor for the channel")));
    await (
      await rig.serve(alone)
    ).done;
  }
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, ["retry request-1#1", "retry request-2#1"]);
});

test("a job whose data cannot be read is ended like any other", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID, { timeoutMs: -1 });
  const { batch } = await rig.serve(rig.runner());
  assert.equal(batch.size, 0);
  await isSettled(rig);
  assert.equal(rig.queues.entry(ID).error?.code, "JOB_DAMAGED");
});

test("a host that was cut off for longer than its lock publishes nothing and keeps its outputs for the next claim", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  const mend = rig.queues.cut("before");
  await finish(runner);
  await until("the outputs are stored and cannot be acknowledged", () => rig.queues.asked.includes("complete"));
  rig.queues.expireLock(ID);
  rig.queues.stall(ID);
  mend();
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, []);
  assert.deepEqual(rig.emitter.of(ID), ["processing"]);
  assert.deepEqual(await rig.spooled(), [`${ID}/1*`]);

  const again = rig.runner({ id: "r2" });
  const { batch } = await rig.serve(again);
  assert.equal(batch.size, 0, "the device is not used again");
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, [`complete ${ID}#2`]);
  assert.equal(rig.queues.entry(ID).result?.claim, 2);
  assert.deepEqual(rig.uploader.removedBefore, [`${ID}#2`]);
  assert.deepEqual(again.process.batches, []);
  assert.deepEqual(await rig.spooled(), []);
});

test("outputs that are stored while the store is away hold up neither the batch nor its runner", async () => {
  await using rig = await openWorkerRig();
  await rig.add("request-1");
  const first = rig.runner();
  await rig.run(first);
  rig.uploader.away();
  await finish(first);
  await until("its upload waits", () => rig.uploader.waiting === 1);
  rig.queues.expireLock("request-1");
  rig.queues.stall("request-1");
  await rig.keeper.renew();
  await isSettled(rig);

  await rig.add("request-2");
  const second = rig.runner({ id: "r2" });
  await rig.run(second);
  assert.deepEqual(
    second.process.batch.jobs.map(({ id }) => id),
    ["request-2"],
  );
  await until("the outputs of the first wait for the store under their second claim", () => rig.uploader.waiting === 1);
  assert.equal(rig.carrier.storing, 1);
  rig.uploader.back();
  await finish(second);
  await isSettled(rig);
  assert.equal(rig.queues.entry("request-1").result?.claim, 2);
  assert.equal(rig.queues.entry("request-2").state, "completed");
});

test("a cancel that cannot be settled while Redis is away does not hold up the others of the batch", async () => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  rig.requests.cancelled.add("request-2");
  const mend = rig.queues.cut("before", { verbs: ["fail"] });
  const runner = rig.runner();
  await rig.run(runner);
  assert.equal(rig.keeper.holds("request-2"), true);
  await finish(runner);
  mend();
  await isSettled(rig);
  assert.equal(rig.queues.entry("request-1").state, "completed");
  assert.equal(rig.queues.entry("request-2").error?.code, "CANCELLED");
});

test("a lock that is lost while the job runs stops it and tells nothing", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  rig.queues.stall(ID);
  await rig.keeper.renew();
  await isSettled(rig);
  assert.deepEqual(runner.process.cancelled, [ID]);
  assert.deepEqual(rig.queues.did, []);
  assert.deepEqual(rig.emitter.of(ID), ["processing"]);
  assert.deepEqual(await rig.spooled(), []);
});

test("a lock that is lost during the upload ends the upload and keeps the outputs in the spool", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  rig.uploader.away();
  await finish(runner);
  await until("its upload waits", () => rig.uploader.waiting === 1);
  rig.queues.stall(ID);
  await rig.keeper.renew();
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, []);
  assert.deepEqual([...rig.uploader.stored], []);
  assert.deepEqual(await rig.spooled(), [`${ID}/1*`]);
});

test("two claims of one job are held at once: the old one winds up, the new one runs to its end and keeps its folder", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const deaf = rig.runner({ isDeaf: true });
  await rig.run(deaf);
  rig.queues.stall(ID);
  const fresh = rig.runner({ id: "r2" });
  await rig.run(fresh);
  assert.deepEqual(
    rig.keeper.jobs.map(({ claim }) => claim.claim),
    [1, 2],
  );
  await rig.keeper.renew();
  assert.equal(rig.keeper.jobs[1]?.abortReason, null, "the new claim's lock is not the old one's");
  await deaf.process.batch.fail("CANCELLED");
  deaf.process.batch.end();
  await until("the old one is settled", () => rig.carrier.carrying === 1);
  assert.deepEqual(await rig.spooled(), [`${ID}/2`]);
  await finish(fresh);
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, [`complete ${ID}#2`]);
});

const FULL = new AppError("SPOOL_FULL", "no space left on the disk of the spool");

test("a full disk spends no attempt and is reported: when the claim's folder is made", async (t) => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  t.mock.method(rig.spool, "create", () => Promise.reject(FULL));
  await rig.serve(rig.runner());
  await isSettled(rig);
  assertHandedBackForFullDisk(rig);
});

test("a full disk spends no attempt and is reported: when an input comes", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID, { inputs: [INPUT] });
  rig.onInput = () => Promise.reject(FULL);
  await rig.serve(rig.runner());
  await isSettled(rig);
  assertHandedBackForFullDisk(rig);
});

test("a full disk spends no attempt and is reported: whatever noticed it while an input came took it for", async () => {
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  for (const seen of [full, new AppError("SOURCE_DOWNLOAD_FAILED", "the connection failed (ENOSPC)", { cause: full })]) {
    await using rig = await openWorkerRig();
    await rig.add(ID, { inputs: [INPUT] });
    rig.onInput = () => Promise.reject(seen);
    await rig.serve(rig.runner());
    await isSettled(rig);
    assertHandedBackForFullDisk(rig);
  }
});

test("a full disk spends no attempt and is reported: when complete.json is written", async (t) => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  t.mock.method(rig.spool, "complete", () => Promise.reject(FULL));
  const runner = rig.runner();
  await rig.run(runner);
  await finish(runner);
  await isSettled(rig);
  assertHandedBackForFullDisk(rig);
});

test("a full disk spends no attempt and is reported: by the runner, for one job of a batch as well", async () => {
  for (const ids of [[ID], [ID, "request-2"]]) {
    await using rig = await openWorkerRig();
    for (const id of ids) await rig.add(id);
    const runner = rig.runner();
    await rig.run(runner);
    const { batch } = runner.process;
    await batch.fail("SPOOL_FULL", ID);
    if (ids.length > 1) await batch.done("request-2");
    batch.end();
    await isSettled(rig);
    assertHandedBackForFullDisk(rig);
  }
});

function assertHandedBackForFullDisk(rig: WorkerRig): void {
  assert.deepEqual(rig.queues.verbsOf(ID), [`handBack ${ID}#1`]);
  assert.equal(rig.queues.entry(ID).attemptsMade, 0);
  assert.equal(rig.fullDisks, 1);
  assert.deepEqual(rig.quarantines, []);
}

test("a full disk whose report throws costs no claim its end", async (t) => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  t.mock.method(rig.spool, "create", () => Promise.reject(FULL));
  rig.onSpoolFull = () => {
    throw new Error("the scheduler has a bug");
  };
  await rig.serve(rig.runner());
  await isSettled(rig);
  assert.deepEqual(rig.queues.verbsOf(ID), [`handBack ${ID}#1`]);
  const told = rig.lines.findIndex((line) => line.includes("this is a bug"));
  assert.notEqual(told, -1);
  rig.lines.splice(told, 1);
});

test("an object store that does not give an input postpones the job and spends no attempt", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID, { inputs: [INPUT] });
  rig.onInput = () => Promise.reject(new AppError("STORAGE_UNAVAILABLE", "the store does not answer"));
  await rig.serve(rig.runner());
  await isSettled(rig);
  assert.deepEqual(rig.queues.verbsOf(ID), [`delay ${ID}#1`]);
  assert.equal(rig.queues.entry(ID).attemptsMade, 0);
  assert.deepEqual(rig.emitter.of(ID), ["requeued"]);
});

type Phase = readonly [name: string, arrive: (rig: WorkerRig) => Promise<void>];

/** Brings one job to a phase and leaves it there. */
const PHASES: readonly Phase[] = [
  [
    "fetching inputs",
    async (rig) => {
      const fetching = Promise.withResolvers<void>();
      rig.onInput = (_key, _path, { signal }) => {
        fetching.resolve();
        const { promise, reject } = Promise.withResolvers<never>();
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
        return promise;
      };
      await rig.add(ID, { inputs: [INPUT] });
      await rig.serve(rig.runner());
      await fetching.promise;
    },
  ],
  [
    "waiting for the others of its batch",
    async (rig) => {
      await rig.add(ID);
      const batch = new Batch(rig.runner(), { onStage: () => undefined });
      await rig.claimer.claimInto(batch, 1);
      assert.equal(batch.size, 1);
    },
  ],
  [
    "running",
    async (rig) => {
      await rig.add(ID);
      await rig.run(rig.runner());
    },
  ],
  [
    "uploading",
    async (rig) => {
      await rig.add(ID);
      const runner = rig.runner();
      await rig.run(runner);
      rig.uploader.away();
      await finish(runner);
      await until("its upload waits", () => rig.uploader.waiting === 1);
    },
  ],
  [
    "waiting to run again",
    async (rig) => {
      await rig.add(ID);
      const dying = rig.runner();
      rig.requests.onStart = () => dying.process.crash();
      await rig.serve(dying);
      await until("the job waits to run again", () => rig.reruns.of("fake").length === 1);
    },
  ],
];

for (const [phase, arrive] of PHASES) {
  test(`a cancel wins while the job is ${phase}`, async () => {
    await using rig = await openWorkerRig();
    await arrive(rig);
    rig.keeper.cancel(ID);
    await isSettled(rig);
    assert.deepEqual(rig.queues.verbsOf(ID), [`fail ${ID}#1`]);
    assert.equal(rig.queues.entry(ID).error?.code, "CANCELLED");
    assert.equal(rig.emitter.of(ID).at(-1), "error");
    assert.deepEqual(await rig.spooled(), []);
  });

  test(`what this host cuts short while it is ${phase} goes back and spends nothing; whole outputs wait for the next start`, async () => {
    await using rig = await openWorkerRig();
    await arrive(rig);
    rig.keeper.close(handedBack("the worker shut down"));
    await isSettled(rig);
    const isWhole = phase === "uploading";
    assert.deepEqual(rig.queues.verbsOf(ID), isWhole ? [] : [`handBack ${ID}#1`]);
    assert.deepEqual(await rig.spooled(), isWhole ? [`${ID}/1*`] : []);
    assert.equal(rig.queues.entry(ID).attemptsMade, 0);
  });
}

test("a cancel of a job whose runner is deaf ends with the runner; its neighbour runs again and spends nothing", async () => {
  await using rig = await openWorkerRig();
  for (const id of ["request-1", "request-2"]) await rig.add(id);
  const deaf = rig.runner({ isDeaf: true });
  await rig.run(deaf);
  rig.keeper.cancel("request-1");
  await deaf.process.kill("a cancelled job went on");
  await until("the neighbour waits to run again", () => rig.reruns.of("fake").length === 1);
  const next = rig.runner({ id: "r2" });
  await rig.run(next);
  await finish(next);
  await isSettled(rig);
  assert.equal(rig.queues.entry("request-1").error?.code, "CANCELLED");
  assert.deepEqual(rig.queues.verbsOf("request-2"), ["complete request-2#1"]);
  assert.equal(rig.ledger.faults.size, 0);
});

test("a claim that goes back with whole outputs of an earlier one leaves them for the next", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  rig.uploader.away();
  await finish(runner);
  await until("its upload waits", () => rig.uploader.waiting === 1);
  rig.queues.stall(ID);
  await rig.keeper.renew();
  await isSettled(rig);
  await rig.serve(rig.runner({ id: "r2" }));
  await until("its upload waits again", () => rig.uploader.waiting === 1);
  rig.keeper.close(handedBack("the worker shut down"));
  await isSettled(rig);
  assert.deepEqual(rig.queues.did, [`handBack ${ID}#2`], "no lock has to expire for it");
  assert.deepEqual(await rig.spooled(), [`${ID}/1*`]);
});

test("outputs that cannot be read for a moment are not taken for damaged", async (t) => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  rig.uploader.away();
  await finish(runner);
  await until("its upload waits", () => rig.uploader.waiting === 1);
  rig.queues.stall(ID);
  await rig.keeper.renew();
  await isSettled(rig);
  rig.uploader.back();
  const verify = t.mock.method(rig.spool, "verify", () => Promise.reject(new Error("EMFILE: too many open files")), { times: 1 });
  const again = rig.runner({ id: "r2" });
  await rig.run(again);
  assert.equal(verify.mock.callCount(), 1);
  assert.deepEqual(await rig.spooled(), [`${ID}/1*`, `${ID}/2`]);
  await finish(again);
  await isSettled(rig);
  assert.deepEqual(await rig.spooled(), []);
});

test("outputs that are damaged are removed, and the job runs again", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const runner = rig.runner();
  await rig.run(runner);
  rig.uploader.away();
  await finish(runner);
  await until("its upload waits", () => rig.uploader.waiting === 1);
  rig.queues.stall(ID);
  await rig.keeper.renew();
  await isSettled(rig);
  rig.uploader.back();
  const dir = join(rig.spool.dir, ID, "1", "out");
  await mkdir(dir, { recursive: true });
  await writeFile(join(dir, "image.png"), "torn");
  const again = rig.runner({ id: "r2" });
  await rig.run(again);
  assert.deepEqual(await rig.spooled(), [`${ID}/2`]);
  await finish(again);
  await isSettled(rig);
  assert.equal(rig.queues.entry(ID).result?.claim, 2);
});

test("a job starts only once for its clock, and one that ended before its start was recorded leaves no timer", async () => {
  await using rig = await openWorkerRig();
  await rig.add(ID);
  const recording = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  rig.requests.onStart = async () => {
    asked.resolve();
    await recording.promise;
  };
  const { done } = await rig.serve(rig.runner());
  await asked.promise;
  rig.keeper.cancel(ID);
  await isSettled(rig);
  recording.resolve();
  await done;
  assert.deepEqual(rig.emitter.of(ID), ["error"], "nothing is told after the end");
});
