import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Redis } from "ioredis";
import { startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import { openFaultLedger } from "./open-fault-ledger.ts";
import { openRegistry } from "./open-registry.ts";
import type { WorkerAnnouncement } from "./state-types.ts";

let rig: RedisRig;
let redis: Redis;
before(async () => {
  rig = await startRedisRig();
  redis = await rig.connect();
});
after(() => rig[Symbol.asyncDispose]());

function announcement(worker: string): WorkerAnnouncement {
  return { worker, host: "h", pid: 1, models: ["m"], devices: [{ id: "cpu:0", kind: "cpu", memoryBytes: 1 }], draining: false, at: 1 };
}

test("live workers are listed, the last announcement of each; expired and withdrawn ones drop out", async () => {
  const keys = rig.namespace();
  let now = 1_000_000;
  const registry = openRegistry({ redis, keys, now: () => now });
  assert.deepEqual(await registry.list(), []);
  await registry.announce(announcement("w1"), 1_000);
  await registry.announce(announcement("w2"), 5_000);
  await registry.announce({ ...announcement("w3"), draining: true }, 5_000);
  await registry.announce({ ...announcement("w2"), draining: true }, 5_000);
  const names = async (): Promise<readonly string[]> => (await registry.list()).map((worker) => worker.worker).toSorted();
  assert.deepEqual(await names(), ["w1", "w2", "w3"]);
  assert.deepEqual(
    (await registry.list()).find((worker) => worker.worker === "w2"),
    { ...announcement("w2"), draining: true },
  );
  now += 1_000;
  assert.deepEqual(await names(), ["w2", "w3"]);
  await registry.withdraw("w3");
  assert.deepEqual(await names(), ["w2"]);
  await registry.announce(announcement("w1"), 1_000);
  assert.deepEqual(await names(), ["w1", "w2"], "a worker that is back is listed again");
});

test("long dead workers are removed by whoever lists", async () => {
  const keys = rig.namespace();
  let now = 1_000_000;
  const registry = openRegistry({ redis, keys, now: () => now });
  await registry.announce(announcement("w1"), 1_000);
  now += 600_000;
  await registry.list();
  assert.deepEqual(await redis.hkeys(keys.workers), ["w1"]);
  now += 1_001;
  await registry.list();
  assert.equal(await redis.exists(keys.workers), 0);
});

test("faults count by claim, each once, per job, and by whom they are blamed on", async () => {
  const keys = rig.namespace();
  const ledger = openFaultLedger({ redis, keys, ttlMs: 60_000 });
  assert.deepEqual(await ledger.recordFault("job-00001", 1, "job"), { onJob: 1, onDevice: 0 });
  assert.deepEqual(await ledger.recordFault("job-00001", 1, "job"), { onJob: 1, onDevice: 0 }, "one claim counted twice");
  assert.deepEqual(await ledger.recordFault("job-00001", 3, "device"), { onJob: 1, onDevice: 1 });
  assert.deepEqual(await ledger.recordFault("job-00001", 4, "job"), { onJob: 2, onDevice: 1 });
  assert.deepEqual(await ledger.recordFault("job-00002", 3, "job"), { onJob: 1, onDevice: 0 });
});

test("two faults recorded at once are told apart: the second sees both", async () => {
  const keys = rig.namespace();
  const ledgers = [openFaultLedger({ redis, keys, ttlMs: 60_000 }), openFaultLedger({ redis: await rig.connect(), keys, ttlMs: 60_000 })];
  const counts = await Promise.all(ledgers.map((ledger, index) => ledger.recordFault("job-00001", index + 1, "job")));
  assert.deepEqual(counts.map(({ onJob }) => onJob).toSorted(), [1, 2]);
});

test("workers that passed a job on are known by name", async () => {
  const keys = rig.namespace();
  const ledger = openFaultLedger({ redis, keys, ttlMs: 60_000 });
  assert.deepEqual(await ledger.passedOnBy("job-00001"), new Set());
  assert.equal(await ledger.recordPassOn("job-00001", "w1"), 1);
  assert.equal(await ledger.recordPassOn("job-00001", "w1"), 1);
  assert.equal(await ledger.recordPassOn("job-00001", "w2"), 2);
  assert.deepEqual(await ledger.passedOnBy("job-00001"), new Set(["w1", "w2"]));
  assert.deepEqual(await ledger.recordFault("job-00001", 1, "job"), { onJob: 1, onDevice: 0 }, "a job passed on has had no fault");
});

test("the ledger forgets a job when its time is over, counted from the last entry", async () => {
  const keys = rig.namespace();
  const ledger = openFaultLedger({ redis, keys, ttlMs: 3_600_000 });
  await ledger.recordFault("job-00001", 1, "job");
  await redis.pexpire(keys.faults("job-00001"), 900_000);
  await ledger.recordFault("job-00001", 2, "job");
  const leftMs = await redis.pttl(keys.faults("job-00001"));
  assert.ok(leftMs > 1_800_000 && leftMs <= 3_600_000, `${leftMs} ms`);
  const soon = openFaultLedger({ redis, keys, ttlMs: 1 });
  await soon.recordFault("job-00001", 3, "job");
  await soon.recordPassOn("job-00001", "w1");
  await until(
    "the end of the entries",
    async () => (await redis.exists(keys.faults("job-00001"))) === 0 && (await ledger.passedOnBy("job-00001")).size === 0,
  );
});

test("one living daemon has a name: another is told who, until the entry has expired, is withdrawn or is known to be a dead one's", async () => {
  const keys = rig.namespace();
  let now = 1_000_000;
  const registry = openRegistry({ redis, keys, now: () => now });
  const process = { pid: 7, startTicks: "1", bootId: "b", pidNamespace: "n" };
  const first = { ...announcement("w1"), instance: "first", process, since: 5 };
  const second = { ...announcement("w1"), instance: "second" };
  assert.equal(await registry.announce(first, 1_000), null);
  assert.equal(await registry.announce(first, 1_000), null, "its own name is no other's");
  const { text, ...holder } = (await registry.announce(second, 1_000)) ?? assert.fail("the name was given away");
  assert.deepEqual(holder, { instance: "first", host: "h", pid: 1, since: 5, draining: false, process });
  await registry.withdraw("w1", "second");
  assert.notEqual(await registry.announce(second, 1_000), null, "nobody withdraws another's entry");
  assert.equal(await registry.announce(second, 1_000, text), null, "the first is known to be gone");
  assert.equal((await registry.announce(first, 1_000, text))?.instance, "second", "that was another entry");
  now += 1_000;
  assert.equal(await registry.announce(first, 1_000), null, "expired");
  await registry.withdraw("w1", "first");
  assert.equal(await registry.announce(second, 1_000), null, "withdrawn");
});

test("an entry of an older version holds the name while it is fresh; one that nobody can read holds nothing", async () => {
  const keys = rig.namespace();
  const registry = openRegistry({ redis, keys });
  const [seconds] = await redis.time();
  const worker = { ...announcement("w1"), instance: "new" };
  await redis.hset(keys.workers, "w1", JSON.stringify({ expiresAt: Number(seconds) * 1_000 + 60_000, worker: announcement("w1") }));
  assert.equal((await registry.announce(worker, 1_000))?.instance, null);
  await redis.hset(keys.workers, "w1", JSON.stringify({ expiresAt: Number(seconds) * 1_000 - 60_000, worker: announcement("w1") }));
  assert.equal(await registry.announce(worker, 60_000), null, "it has expired, by the server's clock");
  assert.deepEqual(await registry.list(), [worker]);
  for (const damaged of ["no JSON", "[]", '{"expiresAt":9e15}', '"text"', '{"expiresAt":"soon","worker":{}}']) {
    await redis.hset(keys.workers, "w1", damaged);
    assert.equal(await registry.announce(worker, 1_000), null, damaged);
  }
});
