import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { AppError } from "../protocol/error.ts";
import { openObjectStore } from "../storage/object-store.ts";
import { createMetrics } from "../telemetry/metrics.ts";
import { openStoreSweep } from "./open-store-sweep.ts";

test("each round is counted by what came of it, and one that another process has, or that the end cut short, is not", async () => {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-store-sweep-"));
  await using store = await openObjectStore(pathToFileURL(dir).href);
  using metrics = createMetrics({ programs: ["gateway"], version: "0", name: "g" });
  let isOurs = true;
  let isAway = false;
  const sweep = openStoreSweep({
    store,
    metrics,
    config: { retentionMs: 60_000, sweepMs: 60_000 },
    log: { info: () => undefined, warn: () => undefined },
    requests: { get: async () => null },
    queues: { job: async () => null },
    turn: {
      systemId: async () => "one",
      lease: { hold: async () => isOurs, release: async () => undefined },
      progress: {
        isDue: async () => {
          if (isAway) throw new AppError("REDIS_UNAVAILABLE", "away");
          return true;
        },
        pause: async () => undefined,
        cursor: async () => null,
        setCursor: async () => undefined,
      },
    },
  });
  const counted = async (): Promise<readonly string[]> =>
    (await metrics.scrape()).body.split("\n").filter((line) => line.startsWith("dryapi_store_sweeps_total"));
  const open = new AbortController().signal;
  await sweep.run(open);
  isOurs = false;
  await sweep.run(open);
  isAway = true;
  await assert.rejects(() => sweep.run(open));
  await assert.rejects(() => sweep.run(AbortSignal.abort()));
  assert.deepEqual(await counted(), [
    'dryapi_store_sweeps_total{result="done"} 1',
    'dryapi_store_sweeps_total{result="partial"} 0',
    'dryapi_store_sweeps_total{result="failed"} 1',
  ]);
  await rm(dir, { recursive: true, force: true });
});
