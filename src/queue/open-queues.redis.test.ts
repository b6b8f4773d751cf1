import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { claimed, jobData, jobResult, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import type { Claim, Queues } from "./queue-types.ts";

const ERROR = { code: "PIPELINE_FAILED", message: "the sampler gave NaN" } as const;

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

async function setup(): Promise<{ readonly keys: Keys; readonly queues: Queues }> {
  const keys = rig.namespace();
  return { keys, queues: await rig.queues(keys) };
}

async function addAll(queues: Queues, ids: readonly string[], priority: number): Promise<void> {
  for (const id of ids) await queues.add(jobData(id), { priority });
}

/** Ids in the order in which they can be claimed; the claims are kept. */
async function claimAll(queues: Queues): Promise<readonly Claim[]> {
  const claims: Claim[] = [];
  for (let claim = await queues.claim("m"); claim !== null; claim = await queues.claim("m")) claims.push(claim);
  return claims;
}

const ids = (claims: readonly Claim[]): readonly string[] => claims.map((claim) => claim.id);

/** What the end of a lock's life does. */
async function expireLock(keys: Keys, claim: Claim): Promise<void> {
  assert.equal(await redis.del(keys.lock(claim.queue, claim.id)), 1, "there was no lock to take away");
}

/** One check for stalled jobs, as if the interval since the last one were over. */
async function sweepStalled(keys: Keys, queues: Queues): Promise<void> {
  await redis.del(`${keys.prefix}:m:stalled-check`);
  await queues.recoverStalled();
}

/** A job without a lock is only marked by the first check and moved by the second. */
async function stall(keys: Keys, queues: Queues, claim: Claim): Promise<void> {
  await expireLock(keys, claim);
  await sweepStalled(keys, queues);
  await sweepStalled(keys, queues);
}

test("jobs are claimed by priority, then in the order they were added", async () => {
  const { queues } = await setup();
  await addAll(queues, ["z-late-10", "a-later-10"], 10);
  await addAll(queues, ["low-20"], 20);
  await addAll(queues, ["m-urgent-1", "b-urgent-1"], 1);
  const claims = await claimAll(queues);
  assert.deepEqual(ids(claims), ["m-urgent-1", "b-urgent-1", "z-late-10", "a-later-10", "low-20"]);
  assert.deepEqual(
    claims.map((claim) => claim.priority),
    [1, 1, 10, 10, 20],
  );
});

test("a claim carries the job's data, its number and no failures", async () => {
  const { queues } = await setup();
  const before = Date.now();
  await queues.add(jobData("job-00001"), { priority: 3 });
  const claim = await claimed(queues);
  assert.deepEqual(claim.data, jobData("job-00001"));
  const { queue, claim: number, attemptsMade, deferredFailure } = claim;
  assert.deepEqual({ queue, number, attemptsMade, deferredFailure }, { queue: "m", number: 1, attemptsMade: 0, deferredFailure: null });
  assert.ok(claim.addedAt >= before && claim.addedAt <= Date.now(), `added at ${claim.addedAt}`);
});

test("a priority below 1 or with a fraction becomes a whole one of at least 1", async () => {
  const { queues } = await setup();
  await queues.add(jobData("none-0000"), { priority: 0 });
  await queues.add(jobData("minus-000"), { priority: -5 });
  await queues.add(jobData("half-0000"), { priority: 2.9 });
  assert.deepEqual(
    (await claimAll(queues)).map((claim) => [claim.id, claim.priority]),
    [
      ["none-0000", 1],
      ["minus-000", 1],
      ["half-0000", 2],
    ],
  );
});

test("each model has a queue of its own", async () => {
  const { queues } = await setup();
  await queues.add(jobData("for-a-000", "a"), { priority: 1 });
  assert.equal(await queues.claim("b"), null);
  assert.equal((await claimed(queues, "a")).id, "for-a-000");
  assert.equal(await queues.job("b", "for-a-000"), null);
});

test("no job is claimed twice by daemons that race for it", async () => {
  const { keys, queues } = await setup();
  const others = [queues, await rig.queues(keys), await rig.queues(keys)];
  const wanted = Array.from({ length: 30 }, (_, index) => `race-${index}`);
  await addAll(queues, wanted, 1);
  const claims = await Promise.all(Array.from({ length: 60 }, async (_, index) => others[index % 3]?.claim("m")));
  const got = claims.filter((claim) => claim !== null && claim !== undefined);
  assert.deepEqual(ids(got).toSorted(), wanted.toSorted());
  assert.equal(new Set(got.map((claim) => claim.token)).size, 30);
});

test("adding a job again changes nothing, whether it waits, runs or has ended", async () => {
  const { queues } = await setup();
  const again = (): Promise<void> => queues.add({ ...jobData("job-00001"), params: { prompt: "other" } }, { priority: 1 });
  await queues.add(jobData("job-00001"), { priority: 5 });
  await again();
  assert.equal((await queues.peek(["m"]))[0]?.waiting, 1);
  const claim = await claimed(queues);
  assert.deepEqual([claim.priority, claim.data], [5, jobData("job-00001")]);
  await again();
  assert.equal(await queues.claim("m"), null);
  await queues.complete(claim, jobResult(1));
  await again();
  assert.equal(await queues.claim("m"), null);
  assert.equal((await queues.job("m", "job-00001"))?.state, "completed");
});

test("handed-back jobs stand at the front of their class in their old order and have spent no attempt", async () => {
  const { queues } = await setup();
  // Ids that sort neither as added nor the other way round: Redis orders equal scores by them.
  await addAll(queues, ["c-1", "a-2", "d-3", "b-4"], 10);
  await addAll(queues, ["e-20"], 20);
  const claims = [await claimed(queues), await claimed(queues), await claimed(queues)];
  assert.deepEqual(ids(claims), ["c-1", "a-2", "d-3"]);
  for (const n of [1, 0, 2]) await queues.handBack(claims[n] ?? assert.fail());
  await addAll(queues, ["0-new"], 10);
  assert.equal((await queues.peek(["m"]))[0]?.topPriority, 10);
  const second = await claimAll(queues);
  assert.deepEqual(ids(second), ["c-1", "a-2", "d-3", "b-4", "0-new", "e-20"]);
  assert.deepEqual(
    second.slice(0, 4).map(({ claim, attemptsMade }) => [claim, attemptsMade]),
    [
      [2, 0],
      [2, 0],
      [2, 0],
      [1, 0],
    ],
  );
});

test("jobs handed back without waiting for each other keep their old order, again and again", async () => {
  const { queues } = await setup();
  const order = ["g-1", "b-2", "f-3", "a-4", "e-5"];
  await addAll(queues, [...order, "c-6"], 1_000);
  for (let round = 1; round <= 40; round += 1) {
    const claims: Claim[] = [];
    for (const _ of order) claims.push(await claimed(queues));
    assert.deepEqual(ids(claims), order, `round ${round}`);
    const shuffled = round % 2 === 0 ? claims.toReversed() : claims.toSorted((a, b) => a.token.localeCompare(b.token));
    await Promise.all(shuffled.map((claim) => queues.handBack(claim)));
  }
});

test("a job handed back by a worker that lost it is not moved", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  const old = await claimed(queues);
  await expireLock(keys, old);
  await assert.rejects(queues.handBack(old), { code: "LOCK_LOST" });
  assert.equal((await queues.job("m", "job-00001"))?.state, "active");
});

test("a retry counts an attempt, waits its delay and goes to the back", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001", "job-00002"], 1);
  const first = await claimed(queues);
  await queues.retry(first, ERROR, 3_600_000);
  assert.equal((await claimed(queues)).id, "job-00002");
  assert.equal(await queues.claim("m"), null, "it was claimed before its delay was over");
  const [peek] = await queues.peek(["m"]);
  assert.equal(peek?.waiting, 0);
  assert.ok(Math.abs((peek.dueInMs ?? 0) - 3_600_000) < 60_000, `due in ${peek.dueInMs} ms`);
  assert.deepEqual(await stateOf(queues, "job-00001"), ["delayed", 1, null]);
  await makeDue(keys, "job-00001");
  await addAll(queues, ["job-00003"], 1);
  const rest = await claimAll(queues);
  assert.deepEqual(
    rest.map(({ id, claim, attemptsMade }) => [id, claim, attemptsMade]),
    [
      ["job-00003", 1, 0],
      ["job-00001", 2, 1],
    ],
  );
});

test("a short delay is over without anybody's help", async () => {
  const { queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  await queues.retry(await claimed(queues), ERROR, 20);
  const claim = await until("the delayed job", () => queues.claim("m"));
  assert.deepEqual([claim.id, claim.attemptsMade], ["job-00001", 1]);
});

test("a job passed on waits its delay and has spent no attempt", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  await queues.delay(await claimed(queues), 3_600_000);
  assert.deepEqual(await stateOf(queues, "job-00001"), ["delayed", 0, null]);
  assert.equal(await queues.claim("m"), null);
  await makeDue(keys, "job-00001");
  const claim = await claimed(queues);
  assert.deepEqual([claim.claim, claim.attemptsMade, claim.priority], [2, 0, 1]);
});

async function stateOf(queues: Queues, id: string): Promise<unknown> {
  const view = await queues.job("m", id);
  return [view?.state, view?.attemptsMade, view?.failedReason];
}

async function makeDue(keys: Keys, id: string): Promise<void> {
  assert.equal(await redis.zadd(`${keys.prefix}:m:delayed`, "XX", "CH", (Date.now() - 1_000) * 4_096, id), 1, `job ${id} is not delayed`);
}

test("a renewal extends all locks of several queues and names exactly the lost ones", async () => {
  const { keys, queues } = await setup();
  for (const id of ["job-00001", "job-00002", "job-00003"]) await queues.add(jobData(id), { priority: 1 });
  await queues.add(jobData("job-0000b", "b"), { priority: 1 });
  const claims = [...(await claimAll(queues)), await claimed(queues, "b")];
  for (const { queue, id } of claims) await redis.pexpire(keys.lock(queue, id), 30_000);
  const [, second, third, other] = claims;
  assert.ok(second !== undefined && third !== undefined && other !== undefined);
  await expireLock(keys, second);
  await redis.set(keys.lock("m", third.id), "another token");
  assert.deepEqual(await queues.renew(claims), [second, third]);
  for (const id of [keys.lock("m", "job-00001"), keys.lock("b", other.id)]) {
    const leftMs = await redis.pttl(id);
    assert.ok(leftMs > 30_000 && leftMs <= 60_000, `lock ${id} lasts ${leftMs} ms`);
  }
  assert.equal(await redis.exists(keys.lock("m", second.id)), 0, "a lost lock was made again");
  assert.equal(await redis.get(keys.lock("m", third.id)), "another token");
  assert.deepEqual(await queues.renew([]), []);
});

test("nothing can be done with a job whose lock another worker has", async () => {
  const { keys, queues } = await setup();
  const other = await rig.queues(keys, { workerName: "w2" });
  await addAll(queues, ["job-00001"], 1);
  const old = await claimed(queues);
  await stall(keys, queues, old);
  const now = await claimed(other);
  const lost = { code: "LOCK_LOST" };
  await assert.rejects(queues.complete(old, jobResult(1)), lost);
  await assert.rejects(queues.fail(old, ERROR), lost);
  await assert.rejects(queues.retry(old, ERROR, 1), lost);
  await assert.rejects(queues.delay(old, 1), lost);
  await assert.rejects(queues.handBack(old), lost);
  assert.deepEqual(await queues.renew([old]), [old]);
  assert.equal(await queues.adopt(old), null);
  assert.deepEqual(await other.renew([now]), []);
  await other.complete(now, jobResult(2));
  assert.equal((await queues.job("m", "job-00001"))?.result?.claim, 2);
});

test("verbs on a job that is gone say that the lock is lost", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  const claim = await claimed(queues);
  const stranger = await rig.queues(keys);
  await redis.del(`${keys.prefix}:m:job-00001`, keys.lock("m", "job-00001"), `${keys.prefix}:m:active`);
  for (const daemon of [queues, stranger]) {
    await assert.rejects(daemon.complete(claim, jobResult(1)), { code: "LOCK_LOST" });
    await assert.rejects(daemon.retry(claim, ERROR, 1), { code: "LOCK_LOST" });
    await assert.rejects(daemon.handBack(claim), { code: "LOCK_LOST" });
  }
});

test("a restarted daemon adopts a claim whose lock still holds, and finishes it", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  const { id, queue, token, claim: number, data } = await claimed(queues);
  await redis.pexpire(keys.lock(queue, id), 30_000);
  const restarted = await rig.queues(keys);
  const adopted = await restarted.adopt({ id, queue, token, claim: number });
  assert.deepEqual([adopted?.id, adopted?.token, adopted?.claim, adopted?.data], [id, token, 1, data]);
  assert.ok((await redis.pttl(keys.lock(queue, id))) > 30_000, "the lock was not renewed");
  assert.ok(adopted);
  await restarted.complete(adopted, jobResult(1));
  assert.deepEqual((await queues.job("m", id))?.result, jobResult(1));
});

test("a claim whose lock expired is adopted while nobody else has the job, and is then not taken for stalled", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  const claim = await claimed(queues);
  await expireLock(keys, claim);
  await sweepStalled(keys, queues);
  assert.equal((await queues.adopt(claim))?.token, claim.token);
  assert.equal(await redis.get(keys.lock("m", claim.id)), claim.token);
  await expireLock(keys, claim);
  await sweepStalled(keys, queues);
  assert.equal((await queues.job("m", claim.id))?.state, "active", "the mark of the earlier check still counted");
  assert.equal((await queues.adopt(claim))?.token, claim.token);
  await sweepStalled(keys, queues);
  assert.equal((await queues.job("m", claim.id))?.state, "active");
  await queues.complete(claim, jobResult(1));
});

test("a claim is not adopted once its job waits again, was claimed anew, has ended or is gone", async () => {
  const { keys, queues } = await setup();
  const other = await rig.queues(keys, { workerName: "w2" });
  await addAll(queues, ["job-00001"], 1);
  const first = await claimed(queues);
  await stall(keys, queues, first);
  assert.equal(await queues.adopt(first), null, "it waits again");
  assert.equal(await redis.exists(keys.lock("m", first.id)), 0, "a waiting job was locked");

  const second = await claimed(other);
  assert.equal(await queues.adopt(first), null, "another worker has it");
  assert.equal(await redis.get(keys.lock("m", first.id)), second.token);
  await expireLock(keys, second);
  assert.equal(await queues.adopt(first), null, "another worker had it since");
  assert.equal(await redis.exists(keys.lock("m", first.id)), 0, "an older claim took the lock");

  await redis.set(keys.lock("m", first.id), "a stranger's");
  assert.equal(await other.adopt(second), null, "the lock is another's");
  assert.equal(await redis.get(keys.lock("m", first.id)), "a stranger's");
  await redis.del(keys.lock("m", first.id));

  assert.equal((await other.adopt(second))?.claim, 2);
  await other.complete(second, jobResult(2));
  assert.equal(await other.adopt(second), null, "it has ended");
  assert.equal(await redis.exists(keys.lock("m", first.id)), 0, "an ended job was locked");
  assert.equal(await queues.adopt({ ...first, id: "never-was" }), null);
});

test("a job whose lock expired goes back to the queue, before all that wait", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001", "job-00002"], 1);
  const claim = await claimed(queues);
  await sweepStalled(keys, queues);
  await sweepStalled(keys, queues);
  assert.equal((await queues.job("m", "job-00001"))?.state, "active", "a job with a lock was taken for stalled");
  await queues.renew([claim]);
  await expireLock(keys, claim);
  await sweepStalled(keys, queues);
  assert.equal((await queues.job("m", "job-00001"))?.state, "active", "the first check only marks");
  await sweepStalled(keys, queues);
  const again = await claimed(queues);
  assert.deepEqual([again.id, again.claim, again.attemptsMade, again.deferredFailure], ["job-00001", 2, 0, null]);
});

test("the check for stalled jobs runs once per interval over all daemons", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  await expireLock(keys, await claimed(queues));
  const other = await rig.queues(keys);
  await other.claim("m");
  for (let check = 0; check < 4; check += 1) await (check % 2 === 0 ? queues : other).recoverStalled();
  assert.equal((await queues.job("m", "job-00001"))?.state, "active");
});

test("a job that stalled once too often comes back with a deferred failure and can be failed for good", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  await stall(keys, queues, await claimed(queues));
  const second = await claimed(queues);
  assert.equal(second.deferredFailure, null, "maxStalled of 1 allows one stall");
  await stall(keys, queues, second);
  const third = await claimed(queues);
  assert.match(third.deferredFailure ?? "", /stalled more than allowable limit/);
  assert.equal((await queues.adopt(third))?.deferredFailure, third.deferredFailure);
  await queues.fail(third, { code: "STALLED", message: third.deferredFailure ?? "" });
  const view = await queues.job("m", "job-00001");
  assert.equal(view?.state, "failed");
  assert.equal((JSON.parse(view.failedReason ?? "null") as { readonly code: string }).code, "STALLED");
  assert.equal(await queues.claim("m"), null);
});

test("a waiting or delayed job can be removed and never starts; an active one cannot", async () => {
  const { queues } = await setup();
  await addAll(queues, ["job-00001", "job-00002", "job-00003"], 1);
  await queues.retry(await claimed(queues), ERROR, 3_600_000);
  const active = await claimed(queues);
  assert.equal(active.id, "job-00002");
  assert.equal(await queues.removeQueued("m", "job-00001"), "removed", "delayed");
  assert.equal(await queues.removeQueued("m", "job-00003"), "removed", "waiting");
  assert.equal(await queues.removeQueued("m", "job-00002"), "active");
  assert.equal(await queues.removeQueued("m", "job-00003"), "gone");
  assert.equal(await queues.removeQueued("m", "never-was"), "gone");
  assert.deepEqual(await queues.peek(["m"]), [{ model: "m", waiting: 0, head: null, topPriority: null, dueInMs: null, paused: false }]);
  assert.equal(await queues.claim("m"), null);
  await queues.complete(active, jobResult(1));
  assert.equal(await queues.removeQueued("m", "job-00002"), "gone", "it has ended");
  assert.equal((await queues.job("m", "job-00002"))?.state, "completed", "a result was thrown away");
});

test("an active job whose lock expired is still active for a cancel", async () => {
  const { keys, queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  await expireLock(keys, await claimed(queues));
  assert.equal(await queues.removeQueued("m", "job-00001"), "active");
});

test("a cancel and a claim of one job never both succeed", async () => {
  const { keys, queues } = await setup();
  const other = await rig.queues(keys);
  await other.claim("m");
  for (let round = 0; round < 30; round += 1) {
    const id = `cancelled-${round}`;
    await queues.add(jobData(id), { priority: 1 });
    const [was, claim] = await Promise.all([queues.removeQueued("m", id), other.claim("m")]);
    assert.equal(was, claim === null ? "removed" : "active", `round ${round}`);
    if (claim !== null) await other.complete(claim, jobResult(1));
  }
});

test("a peek shows the head, what waits and what falls due, and of an empty or paused queue that it is so", async () => {
  const { keys, queues } = await setup();
  const empty = { waiting: 0, head: null, topPriority: null, dueInMs: null, paused: false };
  assert.deepEqual(await queues.peek(["m", "b"]), [
    { model: "m", ...empty },
    { model: "b", ...empty },
  ]);
  assert.deepEqual(await queues.peek([]), []);
  await addAll(queues, ["job-00001", "job-00002"], 2_000_000);
  const [first, second] = [await queues.job("m", "job-00001"), await queues.job("m", "job-00002")];
  assert.deepEqual(await queues.peek(["m"]), [
    { ...empty, model: "m", waiting: 2, head: { id: "job-00001", addedAt: first?.addedAt }, topPriority: 2_000_000 },
  ]);
  await addAll(queues, ["job-00003"], 7);
  const third = await queues.job("m", "job-00003");
  assert.deepEqual(await queues.peek(["m"]), [
    { ...empty, model: "m", waiting: 3, head: { id: "job-00003", addedAt: third?.addedAt }, topPriority: 7 },
  ]);
  await queues.handBack(await claimed(queues));
  assert.deepEqual(await queues.peek(["m"]), [
    { ...empty, model: "m", waiting: 3, head: { id: "job-00003", addedAt: third?.addedAt }, topPriority: 7 },
  ]);
  await stall(keys, queues, await claimed(queues));
  assert.equal((await queues.peek(["m"]))[0]?.topPriority, 0, "a recovered job is before all priorities");
  await redis.hset(`${keys.prefix}:m:meta`, "paused", "1");
  assert.equal((await queues.peek(["m"]))[0]?.paused, true);
  assert.equal(await queues.claim("m"), null);
  assert.ok((first?.addedAt ?? 0) <= (second?.addedAt ?? 0));
});

test("a job's view tells its state, numbers and times from the add to the end", async () => {
  const { queues } = await setup();
  assert.equal(await queues.job("m", "never-was"), null);
  await addAll(queues, ["job-00001"], 1);
  const addedAt = (await queues.job("m", "job-00001"))?.addedAt ?? 0;
  const base = { failedReason: null, result: null, attemptsMade: 0, claim: 0, addedAt, processedAt: null, finishedAt: null };
  assert.deepEqual(await queues.job("m", "job-00001"), { ...base, state: "waiting" });
  assert.ok(Math.abs(Date.now() - addedAt) < 60_000);

  const first = await claimed(queues);
  const active = await queues.job("m", "job-00001");
  assert.deepEqual({ ...active, processedAt: null }, { ...base, state: "active", claim: 1 });
  assert.ok((active?.processedAt ?? 0) >= addedAt);

  await queues.retry(first, ERROR, 1);
  const delayed = await queues.job("m", "job-00001");
  assert.deepEqual([delayed?.state, delayed?.attemptsMade, delayed?.claim, delayed?.failedReason], ["delayed", 1, 1, null]);

  const second = await until("the delayed job", () => queues.claim("m"));
  await queues.complete(second, jobResult(2));
  const done = await queues.job("m", "job-00001");
  assert.deepEqual([done?.state, done?.claim, done?.failedReason, done?.result], ["completed", 2, null, jobResult(2)]);
  assert.ok((done?.finishedAt ?? 0) >= (done?.processedAt ?? Infinity));
});

test("a failure is final and keeps its reason as data", async () => {
  const { queues } = await setup();
  await addAll(queues, ["job-00001"], 1);
  const error = { code: "RUNNER_CRASHED", message: 'killed by "SIGSEGV"\n\u0000\u{1F4A5}', blackBox: { signal: "SIGSEGV" } } as const;
  await queues.fail(await claimed(queues), error);
  const view = await queues.job("m", "job-00001");
  assert.deepEqual([view?.state, view?.result, JSON.parse(view?.failedReason ?? "null")], ["failed", null, error]);
  assert.equal(await queues.claim("m"), null);
});

test("a reader never sees an end without what it ended with", async () => {
  const { keys, queues } = await setup();
  const reader = await rig.queues(keys);
  for (let round = 0; round < 20; round += 1) {
    const id = `ends-${round}`;
    await queues.add(jobData(id), { priority: 1 });
    const claim = await claimed(queues);
    const ending = round % 2 === 0 ? queues.complete(claim, jobResult(1)) : queues.fail(claim, ERROR);
    const views = await Promise.all(Array.from({ length: 8 }, () => reader.job("m", id)));
    await ending;
    for (const view of views) {
      assert.ok(view?.state === "active" || view?.state === "completed" || view?.state === "failed", `state ${view?.state}`);
      if (view.state === "completed") assert.deepEqual(view.result, jobResult(1), `round ${round}`);
      if (view.state === "failed") assert.notEqual(view.failedReason, null, `round ${round}`);
    }
  }
});

test("ended jobs are swept once their retention is over, others never", async () => {
  const keys = rig.namespace();
  const queues = await rig.queues(keys, { retentionMs: 3_600_000 });
  await addAll(queues, ["job-00001", "job-00002", "job-00003", "job-00004"], 1);
  await queues.complete(await claimed(queues), jobResult(1));
  await queues.fail(await claimed(queues), ERROR);
  await claimed(queues);
  assert.equal(await queues.sweep(), 0);
  const soon = await rig.queues(keys, { retentionMs: 0 });
  assert.equal(await soon.sweep(), 0, "queues that were never named are not swept");
  await soon.job("m", "job-00001");
  assert.equal(await until("the retention of 0 ms", () => soon.sweep().then((count) => count > 0 && count)), 2);
  const states = await Promise.all(["job-00001", "job-00002", "job-00003", "job-00004"].map((id) => queues.job("m", id)));
  assert.deepEqual(
    states.map((view) => view?.state ?? "gone"),
    ["gone", "gone", "active", "waiting"],
  );
});
