import assert from "node:assert/strict";
import { test } from "node:test";
import { initialState, type Effect } from "../../core/scheduler-state.ts";
import type { Intents } from "../../state/state-types.ts";
import { CPU_DEVICE, openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { Effects, type EffectsParts } from "./effects.ts";
import { SchedulerLoop } from "./scheduler-loop.ts";

const LOAD = { model: "fake", device: "cpu:0" } as const;

interface EffectsRig {
  readonly effects: Effects;
  readonly loop: SchedulerLoop;
  readonly did: string[];
  readonly declared: Parameters<Intents["declare"]>[0][];
}

function open(rig: WorkerRig, options: { readonly declare?: Intents["declare"]; readonly serve?: EffectsParts["serve"] } = {}): EffectsRig {
  const did: string[] = [];
  const declared: Parameters<Intents["declare"]>[0][] = [];
  // The effects of this loop's own decisions are only written down.
  const loop = new SchedulerLoop(initialState({ devices: [{ ...CPU_DEVICE }], models: [] }), ({ type }) => did.push(`decided ${type}`));
  const intents: Intents = {
    declare: async (at) => {
      declared.push(at);
      return options.declare?.(at) ?? true;
    },
    withdraw: async ({ model }) => {
      did.push(`withdraw ${model}`);
      throw new Error("Redis is away");
    },
    counts: async () => new Map(),
  };
  const effects = new Effects(
    { ...rig.context, intents },
    {
      loop,
      devices: [CPU_DEVICE],
      pool: { start: (id) => did.push(`start ${id}`), stop: (id) => did.push(`stop ${id}`) },
      serve: options.serve ?? (async ({ runner }) => void did.push(`serve ${runner}`)),
    },
  );
  return { effects, loop, did, declared };
}

const START: Effect = { type: "start-runner", runner: "r1", budgetBytes: null, ...LOAD };

test("a load waits for its intent, and starts when it is declared", async () => {
  await using rig = await openWorkerRig();
  const { effects, did, declared } = open(rig);
  effects.perform({ type: "declare-intent", ...LOAD });
  effects.perform(START);
  await until("it starts", () => did.length > 0);
  assert.deepEqual(did, ["start r1"]);
  assert.deepEqual([declared[0]?.worker, declared[0]?.limit], ["me", 1]);
});

test("a load whose intent was refused is given up; one whose intent Redis did not hear goes on", async () => {
  await using rig = await openWorkerRig();
  const refused = open(rig, { declare: async () => false });
  const unheard = open(rig, { declare: () => Promise.reject(new Error("Redis is away")) });
  for (const { effects } of [refused, unheard]) {
    effects.perform({ type: "declare-intent", ...LOAD });
    effects.perform(START);
  }
  await until("the one starts", () => unheard.did.includes("start r1"));
  await until("the other backs off", () => refused.loop.state.backoffs["fake@cpu:0"] !== undefined);
  assert.ok(!refused.did.includes("start r1"));
  refused.loop.close();
});

test("a runner that is stopped while its start waits for the intent never starts, and the scheduler is told of its end", async () => {
  await using rig = await openWorkerRig();
  const intent = Promise.withResolvers<boolean>();
  const { effects, did, loop } = open(rig, { declare: () => intent.promise });
  const told: string[] = [];
  const tell = loop.tell.bind(loop);
  loop.tell = (event) => {
    told.push(event.type);
    tell(event);
  };
  effects.perform({ type: "declare-intent", ...LOAD });
  effects.perform(START);
  effects.perform({ type: "stop-runner", runner: "r1", reason: "evict" });
  intent.resolve(true);
  await until("its end is told", () => told.includes("runner-exited"));
  assert.deepEqual(did, ["stop r1"]);
});

test("a pin is declared without a limit", async () => {
  await using rig = await openWorkerRig({ env: { DRYAPI_PINNED_MODELS: "fake" } });
  const { effects, declared } = open(rig);
  effects.perform({ type: "declare-intent", ...LOAD });
  await until("it is declared", () => declared.length === 1);
  assert.equal(declared[0]?.limit, Number.MAX_SAFE_INTEGER);
});

test("nothing is started on a device that is not here, or once the drain began", async () => {
  await using rig = await openWorkerRig();
  const { effects, did, loop } = open(rig);
  effects.perform({ ...START, device: "cuda:7" });
  loop.tell({ type: "drain" });
  effects.perform(START);
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(!did.some((line) => line.startsWith("start")));
});

test("a withdrawn intent that does not reach Redis is no error; stops and claims go to their places", async () => {
  await using rig = await openWorkerRig();
  const { effects, did } = open(rig);
  effects.perform({ type: "withdraw-intent", ...LOAD });
  effects.perform({ type: "stop-runner", runner: "r1", reason: "idle" });
  effects.perform({ type: "claim", runner: "r1", model: "fake", max: 1 });
  await until("all is done", () => did.length === 3);
  assert.deepEqual(did.toSorted(), ["serve r1", "stop r1", "withdraw fake"]);
});

test("an effect that throws is told as a bug and goes no further", async () => {
  await using rig = await openWorkerRig();
  const { effects } = open(rig, { serve: () => Promise.reject(new Error("what a bug")) });
  effects.perform({ type: "claim", runner: "r1", model: "fake", max: 1 });
  await until("it is told", () => rig.lines.some((line) => line.includes("an effect failed")));
  rig.lines.length = 0;
});

test("a device that cannot be measured is told as unknown", async () => {
  await using rig = await openWorkerRig();
  const { effects, loop } = open(rig);
  const before = loop.toldAt;
  await effects.measure("cuda:7");
  assert.ok(loop.toldAt >= before);
  assert.equal(loop.state.devices[0]?.unmeasuredSince, null);
});
