import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import type { QueuePeek } from "../queue/queue-types.ts";
import type { WorkerAnnouncement } from "../state/state-types.ts";
import { createMetrics } from "../telemetry/metrics.ts";
import { fakeManifest } from "../../test/fixtures/runner-rig.ts";
import { exportQueues } from "./export-queues.ts";
import type { GatewayContext } from "./gateway-context.ts";

interface Rig extends Disposable {
  /** Waiting jobs by offered model. */
  waiting: Readonly<Record<string, number>>;
  /** Milliseconds that jobs took lately. */
  times: Readonly<Record<string, number>>;
  workers: readonly Partial<WorkerAnnouncement>[];
  isAway: boolean;
  now: number;
  readonly peeks: (readonly string[])[];
  readonly errors: unknown[];
  /** The lines about queues and workers. */
  scrape(): Promise<readonly string[]>;
}

function open(): Rig {
  const errors: unknown[] = [];
  const metrics = createMetrics({ programs: ["gateway"], version: "0", name: "g", onError: (thrown) => errors.push(thrown) });
  const rig: Rig = {
    waiting: {},
    times: {},
    workers: [],
    isAway: false,
    now: 0,
    peeks: [],
    errors,
    scrape: async () => {
      const { body } = await metrics.scrape();
      return body.split("\n").filter((line) => /^dryapi_(queue_waiting|queue_work|model_workers)/.test(line));
    },
    [Symbol.dispose]: () => metrics[Symbol.dispose](),
  };
  const peek = async (models: readonly string[]): Promise<readonly QueuePeek[]> => {
    rig.peeks.push(models);
    if (rig.isAway) throw new AppError("REDIS_UNAVAILABLE", "away");
    return models.map((model) => ({
      model,
      waiting: rig.waiting[model] ?? 0,
      head: null,
      topPriority: null,
      dueInMs: null,
      paused: false,
    }));
  };
  const context = {
    metrics,
    offered: {
      list: async () => Object.keys(rig.waiting).map((slug) => ({ slug, manifest: fakeManifest({}) })),
      workers: async () => rig.workers,
    },
    queues: { peek },
    runTimes: { all: async () => new Map(Object.entries(rig.times)) },
  } as unknown as GatewayContext;
  exportQueues(context, () => rig.now);
  return rig;
}

test("work is what waits times what a job took lately, a minute where none has ended; workers that drain serve nothing", async () => {
  using rig = open();
  rig.waiting = { known: 4, fresh: 2, idle: 0 };
  rig.times = { known: 2_500, gone: 9 };
  rig.workers = [
    { models: ["known"], draining: false },
    { models: ["known", "fresh"], draining: false },
    { models: ["known"], draining: true },
  ];
  assert.deepEqual(await rig.scrape(), [
    'dryapi_queue_waiting{model="known"} 4',
    'dryapi_queue_waiting{model="fresh"} 2',
    'dryapi_queue_waiting{model="idle"} 0',
    'dryapi_queue_work_seconds{model="known"} 10',
    'dryapi_queue_work_seconds{model="fresh"} 120',
    'dryapi_queue_work_seconds{model="idle"} 0',
    'dryapi_model_workers{model="known"} 2',
    'dryapi_model_workers{model="fresh"} 1',
    'dryapi_model_workers{model="idle"} 0',
  ]);
});

test("however often it is scraped, Redis is asked once in five seconds", async () => {
  using rig = open();
  rig.waiting = { m: 1 };
  await rig.scrape();
  rig.now = 4_999;
  await rig.scrape();
  assert.equal(rig.peeks.length, 1);
  rig.now = 5_000;
  await rig.scrape();
  assert.deepEqual(rig.peeks, [["m"], ["m"]]);
});

test("while Redis is away the last values stay, and the scrape goes on", async () => {
  using rig = open();
  rig.waiting = { m: 1 };
  const before = await rig.scrape();
  rig.isAway = true;
  rig.now = 60_000;
  assert.deepEqual(await rig.scrape(), before);
  assert.equal(rig.errors.length, 1);
});

test("a model that is offered no more has no gauges", async () => {
  using rig = open();
  rig.waiting = { a: 1, b: 1 };
  await rig.scrape();
  rig.waiting = { b: 1 };
  rig.now = 60_000;
  assert.deepEqual(
    (await rig.scrape()).filter((line) => line.includes('"a"')),
    [],
  );
});
