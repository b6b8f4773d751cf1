import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import type { JobEventDraft } from "../../protocol/event.ts";
import { JOB_VERSION } from "../../protocol/job.ts";
import { createLogger } from "../../telemetry/logger.ts";
import { HeldJob } from "./held-job.ts";
import { JobRelay } from "./job-relay.ts";
import type { WorkerContext } from "../worker-context.ts";

interface Rig {
  readonly relay: JobRelay;
  /** What was tried, in order. */
  readonly tried: JobEventDraft[];
  /** Settles the oldest send that waits. */
  settle(ok: boolean): Promise<void>;
}

/** A relay whose sends wait until the test settles them, as with a Redis that hangs. */
function openRelay(now: () => number = Date.now): Rig {
  const tried: JobEventDraft[] = [];
  const waiting: PromiseWithResolvers<{ lockHeld: boolean; cancelled: boolean }>[] = [];
  const emit = (_target: unknown, draft: JobEventDraft): Promise<unknown> => {
    tried.push(draft);
    const gate = Promise.withResolvers<{ lockHeld: boolean; cancelled: boolean }>();
    waiting.push(gate);
    return gate.promise;
  };
  const context = { emitter: { emit }, metrics: { previews: { inc: () => undefined } } } as unknown as WorkerContext;
  const data = {
    v: JOB_VERSION,
    id: "job-relay-1",
    task: "txt2img",
    model: "fake",
    client: "tester",
    params: {},
    inputs: [],
    timeoutMs: 1_000,
    submittedAt: 1,
  };
  const claim = {
    id: data.id,
    queue: "fake",
    token: "t",
    claim: 1,
    order: 1,
    attemptsMade: 0,
    addedAt: 1,
    priority: 1,
    deferredFailure: null,
    data,
  };
  const job = new HeldJob(claim, { log: createLogger({ level: "silent" }), onRelease: () => undefined });
  return {
    relay: new JobRelay(context, job, () => undefined, now),
    tried,
    settle: async (ok) => {
      const gate = waiting.shift();
      assert.ok(gate !== undefined, "no send waits");
      if (ok) gate.resolve({ lockHeld: true, cancelled: false });
      else gate.reject(new AppError("REDIS_UNAVAILABLE", "no answer within 10000 ms"));
      await new Promise(setImmediate);
    },
  };
}

const JPEG = new Uint8Array(8);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test("events go out in their order, one after the other", async () => {
  const { relay, tried, settle } = openRelay();
  relay.started(Promise.resolve());
  relay.stage("text");
  relay.preview({ type: "preview", id: "job-relay-1", jpeg: JPEG, step: 1 });
  await turn();
  assert.deepEqual(
    tried.map(({ type }) => type),
    ["processing"],
  );
  await settle(true);
  await settle(true);
  await settle(true);
  await relay[Symbol.asyncDispose]();
  assert.deepEqual(
    tried.map(({ type }) => type),
    ["processing", "progress", "preview"],
  );
});

test("with a Redis that hangs the end of a job waits for one send, not for all that queued up behind it", async () => {
  const { relay, tried, settle } = openRelay();
  relay.started(Promise.resolve());
  relay.stage("text");
  relay.preview({ type: "preview", id: "job-relay-1", jpeg: JPEG, step: 1 });
  await turn();
  const closed = relay[Symbol.asyncDispose]();
  await settle(false);
  await closed;
  assert.deepEqual(
    tried.map(({ type }) => type),
    ["processing"],
  );
});

test("after an outage only the newest event is tried, and then all again", async () => {
  const { relay, tried, settle } = openRelay();
  relay.started(Promise.resolve());
  relay.stage("text");
  relay.preview({ type: "preview", id: "job-relay-1", jpeg: JPEG, step: 1 });
  await turn();
  await settle(false);
  assert.deepEqual(
    tried.map(({ type }) => type),
    ["processing", "preview"],
  );
  await settle(true);
  relay.started(Promise.resolve());
  await turn();
  await settle(true);
  await relay[Symbol.asyncDispose]();
  assert.deepEqual(
    tried.map(({ type }) => type),
    ["processing", "preview", "processing"],
  );
});

test("of previews that come too fast four a second are told, the newest of each quarter", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const { relay, tried, settle } = openRelay(() => now);
  for (let step = 0; step < 100; step += 1) {
    const before = tried.length;
    relay.preview({ type: "preview", id: "job-relay-1", jpeg: JPEG, step });
    now += 10;
    t.mock.timers.tick(10);
    await turn();
    if (tried.length > before) await settle(true);
  }
  await relay[Symbol.asyncDispose]();
  assert.deepEqual(
    tried.map(({ step }) => step),
    [0, 24, 49, 74, 99],
  );
});
