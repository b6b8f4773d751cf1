import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAX_BLAMED_FAULT_CLAIMS } from "../../core/job-outcome.ts";
import { DEFAULT_HEALTH } from "../../core/device-health.ts";
import type { ErrorCode } from "../../protocol/error.ts";
import type { FakeBatch } from "../../../test/support/fake-batch.ts";
import type { FakeRunner } from "../../../test/support/fake-runner.ts";
import { openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";

type Fault = Extract<ErrorCode, "RUNNER_CRASHED" | "STAGE_TIMEOUT" | "DEVICE_UNAVAILABLE">;
const FAULTS: readonly Fault[] = ["RUNNER_CRASHED", "STAGE_TIMEOUT", "DEVICE_UNAVAILABLE"];

/** What a run comes to; null = all its jobs are done. */
type Verdict = (batch: FakeBatch) => Fault | null;

/** Serves all jobs to their end on one worker with one device, one runner at a time; quarantines pass at once. */
async function serveAll(rig: WorkerRig, verdict: Verdict): Promise<void> {
  const work = (batch: FakeBatch, runner: FakeRunner): void => {
    const fault = verdict(batch);
    if (fault === null) void Promise.all(batch.jobs.map(({ id }) => batch.done(id))).then(() => batch.end());
    else if (fault === "DEVICE_UNAVAILABLE")
      void Promise.all(batch.jobs.map(({ id }) => batch.fail(fault, id))).then(() => batch.end(false));
    else runner.crash(fault);
  };
  for (let rounds = 0; ; rounds += 1) {
    assert.ok(rounds < 500, "it goes on without end");
    rig.queues.ripen();
    if (rig.queues.waiting.length + rig.reruns.of("fake").length === 0) return;
    const { done } = await rig.serve(rig.runner({ id: `r${rounds}`, work }));
    await done;
    await until("what ran is settled or waits to run again", () => rig.carrier.carrying === rig.reruns.of("fake").length);
  }
}

const IDS = ["request-1", "request-2", "request-3", "request-4", "request-5"];

for (const fault of FAULTS) {
  test(`${fault}: a poison job between good ones is found out and never blames the device`, async () => {
    await using rig = await openWorkerRig();
    for (const id of IDS) await rig.add(id);
    const [, poison] = IDS;
    assert.ok(poison !== undefined);
    await serveAll(rig, (batch) => (batch.jobs.some(({ id }) => id === poison) ? fault : null));
    assert.deepEqual(rig.quarantines, []);
    for (const id of IDS.filter((each) => each !== poison)) {
      assert.equal(rig.queues.entry(id).state, "completed", id);
      assert.deepEqual([rig.queues.entry(id).attemptsMade, rig.queues.entry(id).claim], [0, 1], `${id} spends nothing`);
      assert.equal(rig.ledger.faults.has(id), false);
    }
    assert.deepEqual(rig.queues.verbsOf(poison), [`retry ${poison}#1`, `fail ${poison}#2`], "one more try on a fresh runner");
    assert.equal(rig.queues.entry(poison).error?.code, fault === "STAGE_TIMEOUT" ? "STAGE_TIMEOUT" : "POISON_JOB");
  });

  test(`${fault}: the fault of a batch counts against nobody, that of a job alone against the job and its device`, async () => {
    await using rig = await openWorkerRig();
    for (const id of IDS.slice(0, 2)) await rig.add(id);
    const seen: number[] = [];
    await serveAll(rig, (batch) => {
      seen.push(batch.jobs.length);
      return batch.jobs.length > 1 || seen.length === 2 ? fault : null;
    });
    assert.deepEqual(seen, [2, 1, 1, 1]);
    assert.deepEqual([...rig.ledger.faults.keys()], ["request-1"]);
    assert.deepEqual(
      IDS.slice(0, 2).map((id) => rig.queues.entry(id).state),
      ["completed", "completed"],
    );
  });

  test(`${fault}: a device that fails different jobs is blamed, and then costs none an attempt`, async () => {
    await using rig = await openWorkerRig();
    for (const id of IDS.slice(0, 4)) await rig.add(id);
    let runs = 0;
    await serveAll(rig, (batch) => {
      if (batch.jobs.length > 1) return fault;
      runs += 1;
      return runs <= 4 ? fault : null;
    });
    assert.deepEqual(
      rig.quarantines.map(({ device }) => device),
      ["cpu:0", "cpu:0"],
      "the third job, and the fourth on probation",
    );
    const attempts = IDS.slice(0, 4).map((id) => rig.queues.entry(id).attemptsMade);
    assert.deepEqual(attempts, [1, 1, 0, 0]);
    for (const id of IDS.slice(0, 4)) assert.equal(rig.queues.entry(id).state, "completed", id);
  });
}

test("with another live worker a blamed device's jobs are passed on, at no cost", async () => {
  await using rig = await openWorkerRig();
  rig.others.push("other");
  for (const id of IDS.slice(0, 3)) await rig.add(id);
  const recordPassOn = rig.ledger.recordPassOn.bind(rig.ledger);
  rig.ledger.recordPassOn = (id, worker) => {
    // The other worker leaves, so that the jobs end here.
    rig.others.splice(0);
    return recordPassOn(id, worker);
  };
  let runs = 0;
  await serveAll(rig, (batch) => {
    if (batch.jobs.length > 1) return "RUNNER_CRASHED";
    runs += 1;
    return runs <= 3 ? "RUNNER_CRASHED" : null;
  });
  assert.deepEqual([...(await rig.ledger.passedOnBy("request-3"))], ["me"]);
  assert.equal(rig.queues.entry("request-3").attemptsMade, 0);
});

test("however a device is bad, and for how long, it fails no more good jobs than its health states", async () => {
  const world = fc.record({
    jobs: fc.integer({ min: 1, max: 6 }),
    badRuns: fc.integer({ min: 0, max: 14 }),
    faults: fc.array(fc.constantFrom(...FAULTS), { minLength: 1, maxLength: 4 }),
    /** Good runs between bad ones, for a device that is bad now and then. */
    goodEvery: fc.option(fc.integer({ min: 2, max: 4 }), { nil: null }),
  });
  await fc.assert(
    fc.asyncProperty(world, async ({ jobs, badRuns, faults, goodEvery }) => {
      await using rig = await openWorkerRig();
      const ids = Array.from({ length: jobs }, (_, n) => `request-${n + 1}`);
      for (const id of ids) await rig.add(id);
      let runs = 0;
      let successes = 0;
      await serveAll(rig, () => {
        runs += 1;
        const isBad = runs <= badRuns && (goodEvery === null || runs % goodEvery !== 0);
        if (!isBad) successes += 1;
        return isBad ? (faults[runs % faults.length] ?? "RUNNER_CRASHED") : null;
      });
      const failed = ids.filter((id) => rig.queues.entry(id).state === "failed");
      for (const id of ids) assert.ok(["completed", "failed"].includes(rig.queues.entry(id).state), `${id} has ended`);
      // Until the device is blamed, and after each success anew, fewer than `faultedJobs` jobs can be taken for the cause.
      const blamedThemselves = failed.filter((id) => (rig.ledger.faults.get(id)?.onDevice.size ?? 0) < MAX_BLAMED_FAULT_CLAIMS);
      assert.ok(blamedThemselves.length <= (DEFAULT_HEALTH.faultedJobs - 1) * (successes + 1), `${blamedThemselves.join()} failed`);
      if (goodEvery === null) assert.ok(blamedThemselves.length < DEFAULT_HEALTH.faultedJobs);
      // And each of them had its second try.
      for (const id of blamedThemselves) assert.ok((rig.ledger.faults.get(id)?.onJob.size ?? 0) >= 2, `${id} had one try alone`);
    }),
    { numRuns: 15 },
  );
});
