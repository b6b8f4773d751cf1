import assert from "node:assert/strict";
import { test } from "node:test";
import { NO_FAULTS } from "../../core/job-outcome.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import { RESULT_VERSION, type JobResult } from "../../protocol/result.ts";
import { openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { handedBack } from "./held-job.ts";
import { failedWith, type Ending } from "./settler.ts";

const ID = "request-1";
const LOST = "LOCK_LOST";

function result(claim = 1): JobResult {
  const timings = { queueMs: 0, loadMs: 0, inputMs: 0, runMs: 1, encodeMs: 1, uploadMs: 1 };
  return { v: RESULT_VERSION, files: [], claim, seed: 1, timings, info: {}, worker: "me", device: "cpu:0", finishedAt: 1 };
}

function failed(code: ErrorCode): Ending {
  return failedWith(new AppError(code, "what went wrong"));
}

const DONE: Ending = { kind: "done", result: result() };

/** Every ending, the verb that it becomes, and how the job then stands. */
const VERBS: readonly (readonly [verb: string, ending: Ending, state: string, told: string])[] = [
  ["complete", DONE, "completed", "done"],
  ["fail", failed("INVALID_INPUT"), "failed", "error"],
  ["fail", failed("CANCELLED"), "failed", "error"],
  ["retry", failed("PIPELINE_FAILED"), "delayed", "requeued"],
  ["delay", failed("STORAGE_UNAVAILABLE"), "delayed", "requeued"],
  ["delay", { ...failedWith(new AppError("RUNNER_CRASHED", "x")), deviceBlamed: true, faults: NO_FAULTS } as Ending, "delayed", "requeued"],
  ["handBack", failedWith(handedBack("the worker shut down")), "waiting", "requeued"],
  ["handBack", failed("SPOOL_FULL"), "waiting", "requeued"],
];

function name(ending: Ending): string {
  return ending.kind === "failed" ? ending.error.code : ending.kind;
}

for (const [verb, ending, state, told] of VERBS) {
  test(`${name(ending)} becomes ${verb}, is told once, and nothing is held afterwards`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    const ended = await rig.settler.settle(job, ending);
    assert.equal(ended, state === "completed" || state === "failed");
    assert.deepEqual(rig.queues.did, [`${verb} ${ID}#1`]);
    assert.equal(rig.queues.entry(ID).state, state);
    assert.deepEqual(rig.emitter.of(ID), [told]);
  });

  test(`${name(ending)}: ${verb} is repeated while Redis is away`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    rig.queues.cut("before", { times: 5 });
    await rig.settler.settle(job, ending);
    assert.deepEqual(rig.queues.did, [`${verb} ${ID}#1`]);
    assert.deepEqual(rig.emitter.of(ID), [told]);
  });

  test(`${name(ending)}: a ${verb} whose answer is lost is known by the job's state`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    rig.queues.cut("after", { verbs: [verb as "complete"], times: 1 });
    // The look at the job is cut as well, once.
    rig.queues.cut("before", { verbs: ["job"], times: 1 });
    await rig.settler.settle(job, ending);
    assert.deepEqual(rig.queues.did, [`${verb} ${ID}#1`]);
    assert.equal(rig.queues.entry(ID).state, state);
    assert.deepEqual(rig.emitter.of(ID), [told]);
  });

  test(`${name(ending)}: a lock that expired in an outage is taken up again when nobody has claimed the job`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    rig.queues.expireLock(ID);
    await rig.settler.settle(job, ending);
    assert.deepEqual(rig.queues.did, [`${verb} ${ID}#1`]);
  });
}

/** What a stranger may have made of the job meanwhile: it looks like our own end of it. */
const STRANGERS: readonly (readonly [what: string, ending: Ending, act: (rig: WorkerRig) => Promise<void>])[] = [
  ["completed", DONE, async (rig) => rig.queues.complete(await rig.queues.take(), result(2))],
  [
    "failed",
    failed("INVALID_INPUT"),
    async (rig) => rig.queues.fail(await rig.queues.take(), { code: "INVALID_INPUT", message: "theirs" }),
  ],
  [
    "retried",
    failed("PIPELINE_FAILED"),
    async (rig) => rig.queues.retry(await rig.queues.take(), { code: "PIPELINE_FAILED", message: "theirs" }, 1),
  ],
  ["handed back", failedWith(handedBack("shutdown")), async (rig) => rig.queues.handBack(await rig.queues.take())],
];

for (const [what, ending, act] of STRANGERS) {
  test(`a job that a stranger has ${what} meanwhile is not taken for ours`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    rig.queues.stall(ID);
    await act(rig);
    const theirs = [...rig.queues.did];
    assert.equal(await rig.settler.settle(job, ending), false);
    assert.deepEqual(rig.queues.did, theirs);
    assert.deepEqual(rig.emitter.of(ID), []);
    assert.ok(rig.lines.some((line) => line.includes("its lock is lost")));
  });
}

for (const [what, ending] of [
  ["done", DONE],
  ["failed", failed("INVALID_INPUT")],
  ["to be retried", failed("PIPELINE_FAILED")],
] as const) {
  test(`a job that is ${what} and was put back by another's stalled check ends nowhere here`, async () => {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    rig.queues.stall(ID);
    assert.equal(await rig.settler.settle(job, ending), false);
    assert.equal(rig.queues.entry(ID).state, "waiting");
    assert.deepEqual(rig.emitter.of(ID), []);
  });
}

test("a job that is with this worker again and again is left after some losses", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  const expire = rig.queues.complete.bind(rig.queues);
  rig.queues.complete = (claim, made) => {
    rig.queues.expireLock(ID);
    return expire(claim, made);
  };
  assert.equal(await rig.settler.settle(job, DONE), false);
  assert.equal(rig.queues.entry(ID).state, "active");
});

test("what cannot be settled when the daemon ends is left to its lock, and says so", async () => {
  for (const how of ["before", "hang"] as const) {
    await using rig = await openWorkerRig();
    const { job } = await rig.hold(ID);
    await using queues = rig.queues;
    queues.cut(how);
    const settled = rig.settler.settle(job, DONE);
    await until("the verb is tried", () => queues.asked.includes("complete"));
    rig.stop.abort(new AppError("REDIS_UNAVAILABLE", "the worker ended"));
    assert.equal(await settled, false);
    assert.equal(queues.entry(ID).state, "active");
    assert.ok(rig.lines.some((line) => line.includes("its lock will expire")));
  }
});

test("a job whose end Redis never takes is left to its lock, and held no longer", async (t) => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  let tries = 0;
  t.mock.method(rig.queues, "complete", async () => {
    tries += 1;
    throw new AppError("INTERNAL", "WRONGTYPE Operation against a key holding the wrong kind of value");
  });
  assert.equal(await rig.settler.settle(job, DONE), false);
  assert.equal(tries, 10);
  assert.deepEqual(rig.emitter.of(ID), []);
  assert.ok(rig.lines.some((line) => line.includes("the queue does not take its end; its lock will expire")));
});

test("a lost lock settles nothing and asks nothing of the queue", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  const asked = rig.queues.asked.length;
  assert.equal(await rig.settler.settle(job, failed(LOST)), false);
  assert.equal(rig.queues.asked.length, asked);
  assert.deepEqual(rig.emitter.of(ID), []);
});

test("an end that cannot be published is an end all the same", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  rig.emitter.onEmit = () => {
    throw new AppError("REDIS_UNAVAILABLE", "it went away just then");
  };
  assert.equal(await rig.settler.settle(job, DONE), true);
});

test("a spool that cannot be read keeps no job from being handed back", async (t) => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  for (const verb of ["findComplete", "removeUnfinished", "removeUpTo"] as const)
    t.mock.method(rig.spool, verb, () => Promise.reject(new Error("EMFILE: too many open files")));
  await rig.settler.settle(job, failedWith(handedBack("the worker shut down")));
  assert.deepEqual(rig.queues.did, [`handBack ${ID}#1`]);
});

test("a job that its device failed is passed on while another worker lives, and only so", async () => {
  for (const [others, passed] of [
    [[], false],
    [["other"], true],
  ] as const) {
    await using rig = await openWorkerRig();
    rig.others.push(...others);
    const { job } = await rig.hold(ID);
    const error = new AppError("RUNNER_CRASHED", "the device is bad");
    await rig.settler.settle(job, { kind: "failed", error, deviceBlamed: true, faults: { onJob: 0, onDevice: 1 } });
    assert.deepEqual(rig.queues.did, [`delay ${ID}#1`]);
    assert.equal((await rig.ledger.passedOnBy(ID)).has("me"), passed);
    assert.equal(rig.queues.entry(ID).attemptsMade, 0);
  }
});

test("who else could take the job is asked again until Redis answers", async () => {
  await using rig = await openWorkerRig();
  rig.others.push("other");
  const { job } = await rig.hold(ID);
  let tries = 0;
  const passedOnBy = rig.ledger.passedOnBy.bind(rig.ledger);
  rig.ledger.passedOnBy = async (id) => {
    tries += 1;
    if (tries < 3) throw new AppError("REDIS_UNAVAILABLE", "away");
    return passedOnBy(id);
  };
  await rig.settler.settle(job, failed("MODEL_CORRUPT"));
  assert.deepEqual([...(await rig.ledger.passedOnBy(ID))], ["me"]);
  assert.deepEqual(rig.queues.did, [`delay ${ID}#1`]);
});

test("a job for another worker waits for it, and nothing is told", async () => {
  await using rig = await openWorkerRig();
  const { job } = await rig.hold(ID);
  assert.equal(await rig.settler.settle(job, { kind: "not-here" }), false);
  assert.deepEqual(rig.queues.did, [`delay ${ID}#1`]);
  assert.deepEqual(rig.emitter.of(ID), []);
});

test("the last attempt fails the job", async () => {
  await using rig = await openWorkerRig({ env: { DRYAPI_MAX_ATTEMPTS: "2" } });
  await rig.add(ID);
  for (const end of ["retry", "fail"]) {
    const job = rig.keeper.hold(await rig.queues.take());
    await rig.settler.settle(job, failed("PIPELINE_FAILED"));
    assert.equal(rig.queues.did.at(-1)?.split(" ")[0], end);
    rig.queues.ripen();
  }
});
