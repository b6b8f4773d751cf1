import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { FakeRunner, type FakeRunnerOptions } from "../../../test/support/fake-runner.ts";
import { CPU_DEVICE, openWorkerRig, until, type WorkerRig } from "../../../test/support/worker-rig.ts";
import { RunnerPool, type PoolEvents } from "./runner-pool.ts";
import type { RunnerOptions } from "./runner-types.ts";

interface PoolRig {
  readonly pool: RunnerPool;
  readonly clock: FakeClock;
  readonly runners: FakeRunner[];
  /** `ready r1`, `exited r1 crashed`, `loadFailed MODEL_CORRUPT`, `pingFailed cpu:0`. */
  readonly told: string[];
  /** What runners were started with. */
  readonly asked: readonly RunnerOptions[];
}

function openPool(
  rig: WorkerRig,
  options: FakeRunnerOptions & { readonly onReady?: () => void; readonly onFork?: () => Promise<void> } = {},
): PoolRig {
  const clock = new FakeClock();
  const runners: FakeRunner[] = [];
  const told: string[] = [];
  const events: PoolEvents = {
    ready: ({ id }) => {
      told.push(`ready ${id}`);
      options.onReady?.();
    },
    exited: ({ id }, crashed) => told.push(`exited ${id}${crashed ? " crashed" : ""}`),
    loadFailed: (_at, { code }) => told.push(`loadFailed ${code}`),
    pingFailed: (device) => told.push(`pingFailed ${device}`),
  };
  const asked: RunnerOptions[] = [];
  const startRunner = async (runnerOptions: RunnerOptions): Promise<FakeRunner> => {
    asked.push(runnerOptions);
    await options.onFork?.();
    const runner = new FakeRunner(options);
    runners.push(runner);
    return runner;
  };
  return { pool: new RunnerPool(rig.context, events, { startRunner, sleep: clock.sleep }), clock, runners, told, asked };
}

async function upRunner(rig: WorkerRig, { pool, runners, told }: PoolRig): Promise<FakeRunner> {
  pool.start("r1", "fake", CPU_DEVICE);
  await until("it is up", () => told.includes("ready r1"));
  const [runner] = runners;
  assert.ok(runner !== undefined, rig.spool.dir);
  return runner;
}

test("a load ends in ready, and the runner's end is told once", async () => {
  await using rig = await openWorkerRig();
  const pools = openPool(rig, { isStarting: true });
  const { pool, told } = pools;
  pool.start("r1", "fake", CPU_DEVICE);
  assert.deepEqual([pool.loading, pool.up.length], [1, 0]);
  await until("it is forked", () => pools.runners.length === 1);
  assert.equal(pool.get("r1"), undefined);
  pools.runners[0]?.loaded();
  await until("it is up", () => told.length === 1);
  assert.deepEqual([pool.loading, pool.up.length, pool.get("r1")?.model], [0, 1, "fake"]);
  pool.stop("r1", 0);
  await until("it is gone", () => told.length === 2);
  assert.deepEqual(told, ["ready r1", "exited r1"]);
  assert.deepEqual([pool.loading, pool.up.length], [0, 0]);
  pool.stop("r1", 0);
});

test("runners get the operator's options of onnxruntime", async () => {
  await using rig = await openWorkerRig({
    env: { DRYAPI_RUNTIME_OPTIONS: '{"arena_shrinkage":true}', DRYAPI_EP_LIBRARIES: "openvino=/opt/ep/libopenvino.so" },
  });
  const pools = openPool(rig);
  await upRunner(rig, pools);
  const [{ runtime, epLibraries } = {}] = pools.asked;
  assert.deepEqual([runtime, epLibraries], [{ arena_shrinkage: true }, { openvino: "/opt/ep/libopenvino.so" }]);
});

test("a crash is told as one", async () => {
  await using rig = await openWorkerRig();
  const pools = openPool(rig);
  (await upRunner(rig, pools)).crash();
  await until("it is gone", () => pools.told.length === 2);
  assert.deepEqual(pools.told, ["ready r1", "exited r1 crashed"]);
});

test("a load that fails is told with its code: damaged files, no process, a process that ended", async () => {
  await using rig = await openWorkerRig();
  const crashing = openPool(rig, { isStarting: true });
  crashing.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is forked", () => crashing.runners.length === 1);
  crashing.runners[0]?.crash("DEVICE_UNAVAILABLE");
  await until("it is gone", () => crashing.told.length === 2);
  assert.deepEqual(crashing.told, ["loadFailed DEVICE_UNAVAILABLE", "exited r1 crashed"]);

  const forkless = openPool(rig, { onFork: () => Promise.reject(new AppError("RUNNER_CRASHED", "EAGAIN")) });
  forkless.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is gone", () => forkless.told.length === 2);
  assert.deepEqual(forkless.told, ["loadFailed RUNNER_CRASHED", "exited r1 crashed"]);

  await rig.context.models.markCorrupt("fake", "damaged");
  const damaged = openPool(rig);
  damaged.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is gone", () => damaged.told.length === 2);
  assert.deepEqual(damaged.told, ["loadFailed MODEL_CORRUPT", "exited r1 crashed"]);
  assert.equal(damaged.pool.loading, 0);
});

test("a load that is no longer wanted ends without blame, in whatever state it is", async () => {
  await using rig = await openWorkerRig();
  const forking = Promise.withResolvers<void>();
  const early = openPool(rig, { isStarting: true, onFork: () => forking.promise });
  early.pool.start("r1", "fake", CPU_DEVICE);
  early.pool.stop("r1", 0);
  forking.resolve();
  await until("it is gone", () => early.told.length === 1);
  const late = openPool(rig, { isStarting: true });
  late.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is forked", () => late.runners.length === 1);
  late.pool.stop("r1", 0);
  await until("it is gone", () => late.told.length === 1);
  for (const { told, runners } of [early, late]) {
    assert.deepEqual(told, ["exited r1"]);
    for (const runner of runners) assert.equal(runner.state, "stopped");
  }
});

test("an error around a load leaves no process behind", async () => {
  await using rig = await openWorkerRig();
  const pools = openPool(rig, {
    onReady: () => {
      throw new Error("the scheduler has a bug");
    },
  });
  pools.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is given up", () => pools.told.length === 3);
  assert.deepEqual(pools.told, ["ready r1", "loadFailed INTERNAL", "exited r1 crashed"]);
  assert.equal(pools.runners[0]?.state, "stopped");
});

test("killing all ends those that load as well, and waits for both", async () => {
  await using rig = await openWorkerRig();
  const pools = openPool(rig);
  await upRunner(rig, pools);
  const loading = openPool(rig, { isStarting: true });
  loading.pool.start("r1", "fake", CPU_DEVICE);
  await until("it is forked", () => loading.runners.length === 1);
  await Promise.all([pools.pool.killAll("shutdown"), loading.pool.killAll("shutdown")]);
  for (const runner of [...pools.runners, ...loading.runners]) assert.equal(runner.state, "stopped");
  await until("both are told", () => pools.told.length === 2 && loading.told.length === 1);
  assert.deepEqual(loading.told, ["exited r1"]);
});

test("an idle runner is pinged, a busy one is not; its proof is as young as its last answer", async () => {
  await using rig = await openWorkerRig();
  const pools = openPool(rig);
  const runner = await upRunner(rig, pools);
  let pings = 0;
  runner.onPing = async () => {
    pings += 1;
    return 1;
  };
  const before = pools.pool.get("r1")?.provenAt ?? 0;
  runner.state = "busy";
  await until("the ping waits", () => pools.clock.sleeping === 1);
  pools.clock.advance(20_000);
  await until("the next ping waits", () => pools.clock.sleeping === 1);
  assert.equal(pings, 0);
  runner.state = "ready";
  pools.clock.advance(20_000);
  await until("it was pinged", () => pings === 1);
  await until("it is proven", () => (pools.pool.get("r1")?.provenAt ?? 0) > before);
  runner.crash();
  await until("nobody sleeps", () => pools.clock.sleeping === 0);
});

test("a ping that a device does not answer is the device's; one that a stop cut short is nobody's", async () => {
  for (const [end, expected] of [
    ["crash", ["ready r1", "exited r1 crashed", "pingFailed cpu:0"]],
    ["stop", ["ready r1", "exited r1"]],
  ] as const) {
    await using rig = await openWorkerRig();
    const pools = openPool(rig);
    const runner = await upRunner(rig, pools);
    const pinged = Promise.withResolvers<void>();
    runner.onPing = async () => {
      pinged.resolve();
      const { error } = await runner.exited;
      throw new AppError(error.code, error.message);
    };
    await until("the ping waits", () => pools.clock.sleeping === 1);
    pools.clock.advance(20_000);
    await pinged.promise;
    if (end === "crash") runner.crash("STAGE_TIMEOUT");
    else pools.pool.stop("r1", 0);
    await until("its end is told", () => pools.told.length === expected.length);
    // All that follows from the end has followed by the next turn.
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(pools.told.toSorted(), expected.toSorted());
  }
});
