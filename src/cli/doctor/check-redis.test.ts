import assert from "node:assert/strict";
import { test } from "node:test";
import { redisFailure } from "../../core/redis-failure.ts";
import { checkRedisFacts, type RedisFacts } from "./check-redis.ts";

const GOOD: RedisFacts = {
  writeFailure: null,
  info: {
    redis_version: "7.0.15",
    maxmemory_policy: "noeviction",
    aof_enabled: "1",
    aof_last_write_status: "ok",
    role: "master",
    connected_slaves: "0",
  },
  config: { "min-replicas-to-write": "0" },
  clockSkewMs: 3,
  pingMs: 0.4,
};

/** `check: level` of all that is not ok. */
function wrong(change: Partial<RedisFacts["info"]>, rest: Partial<RedisFacts> = {}): readonly string[] {
  const findings = checkRedisFacts({ ...GOOD, ...rest, info: { ...GOOD.info, ...change } as Record<string, string> });
  for (const { level, fix } of findings) assert.equal(fix !== undefined, level !== "ok");
  return findings.filter(({ level }) => level !== "ok").map(({ check, level }) => `${check}: ${level}`);
}

test("a Redis as we want it has nothing wrong", () => {
  assert.deepEqual(wrong({}), []);
  assert.deepEqual(wrong({ redis_version: "6.2.0" }, { config: null }), []);
});

test("each way to lose jobs is found", () => {
  assert.deepEqual(wrong({ redis_version: "6.0.16" }), ["redis version: fail"]);
  assert.deepEqual(wrong({ maxmemory_policy: "allkeys-lru" }), ["redis memory policy: fail"]);
  assert.deepEqual(wrong({ aof_enabled: "0" }), ["redis persistence: warn"]);
  assert.deepEqual(wrong({ aof_last_write_status: "err" }), ["redis persistence: fail"]);
  assert.deepEqual(wrong({ role: "slave" }), ["redis role: fail"]);
  assert.deepEqual(wrong({}, { writeFailure: redisFailure(new Error("OOM command not allowed")) }), ["redis write: fail"]);
  assert.deepEqual(wrong({ connected_slaves: "1" }), ["redis failover: warn"]);
});

test("a node of a cluster serves, and may not tomorrow", () => {
  assert.deepEqual(wrong({ cluster_enabled: "1" }), ["redis cluster: warn"]);
  assert.deepEqual(wrong({ cluster_enabled: "0" }), []);
});

test("a clock that is off and a slow network are warned of", () => {
  assert.deepEqual(wrong({}, { clockSkewMs: -5_000 }), ["clock: warn"]);
  assert.deepEqual(wrong({}, { pingMs: 80 }), ["redis latency: warn"]);
});
