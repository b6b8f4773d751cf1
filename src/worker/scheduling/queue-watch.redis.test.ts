import assert from "node:assert/strict";
import { after, test } from "node:test";
import { initialState, type QueueView } from "../../core/scheduler-state.ts";
import { decide } from "../../core/scheduler.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { createLogger } from "../../telemetry/logger.ts";
import { createMetrics } from "../../telemetry/metrics.ts";
import { jobData, startRedisRig, within } from "../../../test/support/redis-rig.ts";
import type { WorkerContext } from "../worker-context.ts";
import { QueueWatch } from "./queue-watch.ts";

const rig = await startRedisRig();
const redis = await rig.connect();
const metrics = createMetrics({ programs: ["worker"], version: "0", name: "w" });
after(async () => {
  metrics[Symbol.dispose]();
  await rig[Symbol.asyncDispose]();
});

const S = 1_000;
const HOUR = 3_600 * S;

interface Watched {
  /** As a submitter whose clock is off. */
  readonly add: (id: string, skewMs: number) => Promise<void>;
  readonly claim: () => Promise<unknown>;
  readonly look: () => Promise<QueueView>;
}

async function watched(): Promise<Watched> {
  const keys = rig.namespace();
  const queues = await rig.queues(keys);
  let seen = Promise.withResolvers<QueueView>();
  const watch = new QueueWatch({
    context: {
      queues,
      metrics,
      intents: { counts: async () => new Map() },
      config: { workerName: "w" },
      log: createLogger({ level: "silent" }),
    } as unknown as WorkerContext,
    models: () => ["m"],
    backlog: () => [],
    onWork: ([view]) => view !== undefined && seen.resolve(view),
    onRedis: () => undefined,
  });
  return {
    add: async (id, skewMs) => {
      await queues.add(jobData(id), { priority: 1 });
      await redis.hset(`${keys.prefix}:m:${id}`, "timestamp", Date.now() + skewMs);
    },
    claim: () => queues.claim("m"),
    look: () => {
      seen = Promise.withResolvers();
      watch.poke("m");
      return within("a look at the queue", seen.promise);
    },
  };
}

test("a job counts from when it was seen first, however far its submitter's clock is off", async () => {
  for (const skewMs of [0, 20 * S, -20 * S, 2 * HOUR, -2 * HOUR]) {
    const { add, look } = await watched();
    const before = steadyNow();
    await add("job-00001", skewMs);
    const { oldestAt } = await look();
    assert.ok(oldestAt !== null && oldestAt >= before && oldestAt <= steadyNow(), `skew ${skewMs}: ${oldestAt}, seen from ${before} on`);
    assert.equal((await look()).oldestAt, oldestAt, "it grows older");
  }
});

test("the next job is as old as the submits lie apart, and never younger than none", async () => {
  const { add, claim, look } = await watched();
  await add("job-00001", -2 * HOUR);
  const first = await look();
  await add("job-00002", 2 * HOUR);
  await claim();
  const second = await look();
  assert.ok(first.oldestAt !== null && second.oldestAt !== null && second.oldestAt >= first.oldestAt && second.oldestAt <= steadyNow());
});

test("a job of a submitter that is two hours ahead or behind starves when its time has come, not earlier and not later", async () => {
  for (const skewMs of [2 * HOUR, -2 * HOUR]) {
    const { add, look } = await watched();
    await add("job-00001", skewMs);
    const view = await look();
    const at = view.oldestAt ?? 0;
    const none = initialState({
      devices: [{ id: "d", kind: "cpu", memoryBytes: 1 }],
      models: [{ slug: "m", memoryBytes: {}, batchMax: 1, pinned: false }],
      policy: { starvationMs: 30_000 },
    });
    const { effects } = decide(none, { type: "work", at, queues: [view] });
    assert.deepEqual(effects, [{ type: "wake-at", at: at + 30_000 }]);
  }
});
