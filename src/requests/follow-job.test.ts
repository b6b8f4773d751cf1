import assert from "node:assert/strict";
import { addAbortSignal, PassThrough } from "node:stream";
import { test } from "node:test";
import type { ModelAvailability, WaitReason } from "../core/model-availability.ts";
import { AppError } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import type { RequestRecord } from "../protocol/request.ts";
import type { JobView } from "../core/job-state.ts";
import { followJob, type FollowDeps } from "./follow-job.ts";
import type { StateDeps } from "./read-state.ts";

const RECORD: RequestRecord = {
  v: 1,
  id: "request-1",
  queue: "tiny",
  client: "local",
  task: "txt2img",
  model: "tiny",
  params: {},
  inputs: [],
  priority: 1,
  timeoutMs: 1_000,
  webhookUrl: null,
  webhookSecretRef: null,
  createdAt: 1,
  startedAt: null,
  cancelledAt: null,
};

const view = (state: JobView["state"]): JobView => ({
  state,
  failedReason: state === "failed" ? JSON.stringify({ code: "POISON_JOB", message: "crashed twice" }) : null,
  result: null,
  attemptsMade: 1,
  claim: 1,
  addedAt: 1,
  processedAt: null,
  finishedAt: state === "failed" ? 5 : null,
});

const event = (seq: number, type: JobEvent["type"]): JobEvent => ({ v: 1, seq, id: RECORD.id, claim: 1, at: 0, type, progress: 10 });

interface Rig {
  readonly deps: FollowDeps;
  set(job: JobView | Error): void;
  /** Resolves after the next look at the job. */
  nextRead(): Promise<void>;
  publish(event: JobEvent): void;
}

/** A request whose job can be changed while it is followed. */
function createRig(): Rig {
  let current: JobView | Error = view("active");
  let read = Promise.withResolvers<void>();
  const events = new PassThrough({ objectMode: true });
  const job = async (): Promise<JobView> => {
    const answer = current;
    setImmediate(() => {
      read.resolve();
      read = Promise.withResolvers<void>();
    });
    if (answer instanceof Error) throw answer;
    return answer;
  };
  return {
    deps: {
      requests: { get: async () => RECORD },
      queues: { job },
      readLive: async () => null,
      availability: async () => ({ kind: "usable" }),
      events: (signal) => addAbortSignal(signal, events) as AsyncIterable<JobEvent>,
    },
    set: (next) => (current = next),
    nextRead: () => read.promise,
    publish: (event) => void events.write(event),
  };
}

const never = 1_000_000;

test("the end is seen at once when its event comes, without waiting for a poll", async () => {
  const { deps, set, nextRead, publish } = createRig();
  const seen: string[] = [];
  const first = nextRead();
  const followed = followJob(deps, {
    id: RECORD.id,
    onEvent: ({ type }) => void seen.push(type),
    signal: AbortSignal.timeout(60_000),
    pollMs: never,
  });
  await first;
  set(view("failed"));
  publish(event(1, "progress"));
  publish(event(2, "error"));
  const state = await followed;
  assert.equal(state.status, "error");
  assert.equal(state.error?.code, "POISON_JOB");
  assert.deepEqual(seen, ["progress", "error"]);
});

test("the end is found by polling when its event was lost, and while Redis is away nothing is given up", async () => {
  const { deps, set, nextRead } = createRig();
  set(new AppError("REDIS_UNAVAILABLE", "away"));
  const first = nextRead();
  const followed = followJob(deps, { id: RECORD.id, onEvent: () => undefined, signal: AbortSignal.timeout(60_000), pollMs: 1 });
  await first;
  set(view("failed"));
  assert.equal((await followed).status, "error");
});

test("an end that comes while the job is being read is not slept over", async () => {
  const { deps, set, publish } = createRig();
  const { job } = deps.queues;
  const queues: StateDeps["queues"] = {
    job: async (queue, id) => {
      const answer = await job(queue, id);
      if (answer?.state === "active") {
        set(view("failed"));
        publish(event(1, "error"));
      }
      return answer;
    },
  };
  const state = await followJob(
    { ...deps, queues },
    { id: RECORD.id, onEvent: () => undefined, signal: AbortSignal.timeout(60_000), pollMs: never },
  );
  assert.equal(state.status, "error");
});

test("an abort ends the waiting with its reason", async () => {
  const { deps, nextRead } = createRig();
  const stop = new AbortController();
  const first = nextRead();
  const followed = followJob(deps, { id: RECORD.id, onEvent: () => undefined, signal: stop.signal, pollMs: never });
  await first;
  stop.abort(new AppError("CANCELLED", "interrupted"));
  await assert.rejects(followed, /interrupted/);
});

test("why it waits is told once per reason", async () => {
  const { deps, set } = createRig();
  set(view("waiting"));
  const corrupt = { kind: "unusable", code: "MODEL_CORRUPT", message: "worker w1: the graph is empty", since: 1 } as const;
  const answers: ModelAvailability[] = [{ kind: "away" }, { kind: "away" }, corrupt, corrupt, { kind: "usable" }, { kind: "away" }];
  const told: string[] = [];
  const availability = async (): Promise<ModelAvailability> => {
    const answer = answers.shift();
    if (answers.length === 0) set(view("failed"));
    return answer ?? { kind: "usable" };
  };
  const onWait = ({ code }: WaitReason): void => void told.push(code);
  await followJob(
    { ...deps, availability },
    { id: RECORD.id, onEvent: () => undefined, onWait, signal: AbortSignal.timeout(5_000), pollMs: 1 },
  );
  assert.deepEqual(told, ["CAPACITY_UNAVAILABLE", "MODEL_CORRUPT", "CAPACITY_UNAVAILABLE"]);
});
