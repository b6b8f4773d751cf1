import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { REQUEST_VERSION, type RequestRecord } from "../protocol/request.ts";
import type { JobView } from "../core/job-state.ts";
import { repairRequests, type RepairDeps } from "./repair-requests.ts";

const record = (id: string, change: Partial<RequestRecord> = {}): RequestRecord => ({
  v: REQUEST_VERSION,
  id,
  queue: "tiny",
  client: "c1",
  task: "txt2img",
  model: "tiny",
  params: { seed: 1 },
  inputs: [],
  priority: 7,
  timeoutMs: 1_000,
  webhookUrl: null,
  webhookSecretRef: null,
  createdAt: 1,
  startedAt: null,
  cancelledAt: null,
  ...change,
});

const WAITING = { state: "waiting" } as unknown as JobView;

interface Rig extends RepairDeps {
  readonly added: string[];
  readonly failed: string[];
  readonly unqueued: Set<string>;
  /** Put off, with the time until which. */
  readonly later: string[];
}

/** Records by id; an error is what reading it throws. `queued`: ids that have a job. */
function rigWith(records: Readonly<Record<string, RequestRecord | AppError | null>>, queued: readonly string[] = []): Rig {
  const added: string[] = [];
  const failed: string[] = [];
  const later: string[] = [];
  const unqueued = new Set(Object.keys(records));
  return {
    added,
    failed,
    later,
    unqueued,
    requests: {
      now: async () => 100_000,
      get: async (id) => {
        const found = records[id] ?? null;
        if (found instanceof AppError) throw found;
        return found;
      },
    },
    queues: {
      job: async (_queue, id) => (queued.includes(id) ? WAITING : null),
      add: async ({ id }, options) => void added.push(`${id} ${JSON.stringify(options)}`),
    },
    index: {
      unqueued: async () => [...unqueued],
      queued: (id) => void unqueued.delete(id),
      lookLater: async (id, at) => void later.push(`${id} ${at}`),
    },
    onError: (id, { code }) => failed.push(`${id} ${code}`),
  };
}

test("a record without a job gets one, as it was submitted", async () => {
  const rig = rigWith({ a: record("a"), b: record("b", { webhookUrl: "https://x.example/" }) });
  assert.equal(await repairRequests(rig), 2);
  assert.deepEqual(rig.added, ['a {"priority":7}', 'b {"priority":7,"webhook":true}']);
  assert.equal(rig.unqueued.size, 0);
});

test("a request that is queued, was cancelled or was never recorded needs no job", async () => {
  const rig = rigWith({ a: record("a"), b: record("b", { cancelledAt: 5 }), c: null }, ["a"]);
  assert.equal(await repairRequests(rig), 0);
  assert.deepEqual([rig.added, rig.unqueued.size], [[], 0]);
});

test("one that cannot be read does not keep the others waiting, and is tried again", async () => {
  const rig = rigWith({ a: new AppError("RECORD_UNREADABLE", "newer"), b: record("b") });
  assert.equal(await repairRequests(rig), 1);
  assert.deepEqual(rig.failed, ["a RECORD_UNREADABLE"]);
  assert.deepEqual(rig.later, ["a 700000"], "hundreds of its kind must not take the place of others at the next look");
  assert.deepEqual([...rig.unqueued], ["a"]);
});

test("without Redis it ends at once", async () => {
  const rig = rigWith({ a: new AppError("REDIS_UNAVAILABLE", "away"), b: record("b") });
  await assert.rejects(repairRequests(rig), { code: "REDIS_UNAVAILABLE" });
  assert.deepEqual([rig.added, rig.failed], [[], []]);
});
