import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { AppError } from "../protocol/error.ts";
import { FakeClock } from "../../test/support/fake-clock.ts";
import type { Cut } from "../../test/support/fake-queues.ts";
import { FakeRunner, type FakeRunnerOptions } from "../../test/support/fake-runner.ts";
import { CPU_DEVICE, nextTurn, openWorkerRig, until, type WorkerRig } from "../../test/support/worker-rig.ts";
import { Daemon } from "./daemon.ts";
import { recoverClaims } from "./claims/recover-claims.ts";
import type { RunnerLink } from "./runners/runner-pool.ts";

const ID = "request-1";
const GRACE_MS = 60_000;
/** Two waits of two seconds for what is given back. */
const BOUND_MS = 4_000;
const INPUT = { name: "image", key: `inputs/${ID}/0`, contentType: "image/png", sizeBytes: 3, sha256: "a".repeat(64) };

/** A daemon over the rig's fakes. Its queues are looked at when `look` says so, its clock goes when the test says so. */
class Host implements AsyncDisposable {
  readonly rig: WorkerRig;
  readonly clock = new FakeClock();
  readonly runners: FakeRunner[] = [];
  readonly daemon: Daemon;
  /** Of the runners that start from now on. */
  runnerOptions: FakeRunnerOptions = {};
  /** Called before a runner starts; may throw. */
  onLoad: () => void = () => undefined;

  constructor(rig: WorkerRig) {
    this.rig = rig;
    const startRunner = async (): Promise<RunnerLink> => {
      this.onLoad();
      const runner = new FakeRunner(this.runnerOptions);
      this.runners.push(runner);
      return runner;
    };
    this.daemon = new Daemon(rig.context, [CPU_DEVICE], { onSpoolFull: () => undefined, startRunner, sleep: this.clock.sleep });
  }

  look(): void {
    this.daemon.queueWatch.poke("fake");
  }

  get last(): FakeRunner {
    const runner = this.runners.at(-1);
    assert.ok(runner !== undefined, "no runner was started");
    return runner;
  }

  /** The drain, while the clock runs on; resolves to how long it took by the clock. */
  async drain(options: { readonly now?: AbortSignal; readonly answers: boolean }): Promise<number> {
    const begunAt = this.clock.now;
    const drained = this.daemon.drain(GRACE_MS, options.now ?? new AbortController().signal);
    let isOver = false;
    void drained.then(() => (isOver = true));
    for (const ms of [options.now === undefined ? GRACE_MS : 0, 2_000, 2_000]) {
      await turns(20);
      // Where Redis answers nothing may need the clock once the grace is over.
      if (ms === 2_000 && options.answers) break;
      if (!isOver) this.clock.advance(ms);
    }
    await until("the drain ends", () => isOver);
    await drained;
    return this.clock.now - begunAt;
  }

  /** What was cut short settles by now, and nothing is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { keeper, carrier, pool } = this.daemon;
    await until("nothing is carried", () => carrier.carrying === 0);
    assert.deepEqual(keeper.jobs, []);
    assert.equal(carrier.storing, 0);
    await until("no runner is left", () => pool.up.length + pool.loading === 0);
    assert.equal(this.clock.sleeping, 0, "somebody still sleeps");
    await this.rig[Symbol.asyncDispose]();
  }
}

async function turns(count: number): Promise<void> {
  for (let n = 0; n < count; n += 1) await nextTurn(0);
}

async function openHost(options: Parameters<typeof openWorkerRig>[0] = {}): Promise<Host> {
  return new Host(await openWorkerRig(options));
}

async function running(host: Host): Promise<void> {
  await host.rig.add(ID);
  host.look();
  await until("the job runs", () => host.runners.at(-1)?.isBusy === true);
}

interface Arrived {
  /** Lets go of what the test itself holds up. */
  readonly letGo: () => void;
}

interface Phase {
  readonly name: string;
  readonly arrive: (host: Host, t: TestContext) => Promise<Arrived>;
  /** What becomes of the job where Redis answers: given back, or left to its lock (and its outputs to the next start). */
  readonly end: "handBack" | "kept";
}

const NOTHING: Arrived = { letGo: () => undefined };

const PHASES: readonly Phase[] = [
  {
    name: "running",
    end: "handBack",
    arrive: async (host) => {
      await running(host);
      return NOTHING;
    },
  },
  {
    name: "running on a deaf runner",
    end: "handBack",
    arrive: async (host) => {
      host.runnerOptions = { isDeaf: true };
      await running(host);
      return NOTHING;
    },
  },
  {
    name: "recording",
    end: "handBack",
    arrive: async (host, t) => {
      const hung = Promise.withResolvers<void>();
      const asked = Promise.withResolvers<void>();
      t.mock.method(host.rig.spool, "verify", async (_entry: unknown, _files: unknown, signal: AbortSignal) => {
        asked.resolve();
        const aborted = Promise.withResolvers<never>();
        signal.addEventListener("abort", () => aborted.reject(signal.reason), { once: true });
        await Promise.race([hung.promise, aborted.promise]);
      });
      await running(host);
      const { batch } = host.last;
      void batch.done(ID);
      await asked.promise;
      return { letGo: hung.resolve };
    },
  },
  {
    name: "uploading",
    end: "kept",
    arrive: async (host) => {
      await running(host);
      host.rig.uploader.away();
      const { batch } = host.last;
      await batch.done(ID);
      batch.end();
      await until("its upload waits", () => host.rig.uploader.waiting === 1);
      return NOTHING;
    },
  },
];

const WAITING: Phase = {
  name: "waiting to run again",
  end: "handBack",
  arrive: async (host) => {
    let crashes = 0;
    host.rig.requests.onStart = () => {
      crashes += 1;
      host.onLoad = () => {
        host.runnerOptions = { isStarting: true };
      };
      host.last.crash();
    };
    await host.rig.add(ID);
    host.look();
    await until("its runner is gone and the next one loads", () => crashes === 1 && host.runners.length === 2);
    return NOTHING;
  },
};

const FETCHING: Phase = {
  name: "fetching inputs",
  end: "handBack",
  arrive: async (host) => {
    const fetching = Promise.withResolvers<void>();
    host.rig.onInput = (_key, _path, { signal }) => {
      fetching.resolve();
      const { promise, reject } = Promise.withResolvers<never>();
      signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      return promise;
    };
    await host.rig.add(ID, { inputs: [INPUT] });
    host.look();
    await fetching.promise;
    return NOTHING;
  },
};

const SEATED: Phase = {
  name: "waiting for the others of its batch",
  end: "handBack",
  arrive: async (host, t) => {
    await host.rig.add("request-2");
    const arrived = await FETCHING.arrive(host, t);
    await until("both are held", () => host.daemon.keeper.jobs.length === 2);
    return arrived;
  },
};

for (const { name, arrive, end } of [FETCHING, SEATED, ...PHASES, WAITING]) {
  test(`a drain with a job ${name}: ${end === "kept" ? "its outputs wait for the next start" : "it goes back and spends nothing"}`, async (t) => {
    await using host = await openHost();
    const { letGo } = await arrive(host, t);
    assert.ok((await host.drain({ answers: true })) <= GRACE_MS);
    letGo();
    assert.deepEqual(host.rig.queues.verbsOf(ID), end === "kept" ? [] : [`handBack ${ID}#1`]);
    assert.equal(host.rig.queues.entry(ID).attemptsMade, 0);
    assert.deepEqual(await host.rig.spooled(), end === "kept" ? [`${ID}/1*`] : []);
  });

  for (const how of ["before", "hang"] as const satisfies readonly Cut[]) {
    test(`a drain with a job ${name} ends in time while Redis ${how === "hang" ? "hangs" : "is away"}; the spool stays`, async (t) => {
      await using host = await openHost();
      const { letGo } = await arrive(host, t);
      const before = await host.rig.spooled();
      await using queues = host.rig.queues;
      queues.cut(how);
      assert.ok((await host.drain({ answers: false })) <= GRACE_MS + BOUND_MS);
      letGo();
      assert.deepEqual(queues.did, []);
      assert.equal(queues.entry(ID).state, "active", "it is left to its lock");
      assert.deepEqual(await host.rig.spooled(), before);
    });
  }
}

test("a drain waits for a batch that ends within the grace", async () => {
  await using host = await openHost();
  await running(host);
  const drained = host.daemon.drain(GRACE_MS, new AbortController().signal);
  const { batch } = host.last;
  await batch.done();
  batch.end();
  await drained;
  assert.equal(host.clock.now, 0);
  assert.deepEqual(host.rig.queues.did, [`complete ${ID}#1`]);
});

test("a second signal ends the grace at once", async () => {
  await using host = await openHost();
  await running(host);
  const now = new AbortController();
  const drained = host.daemon.drain(GRACE_MS, now.signal);
  await turns(20);
  assert.deepEqual(host.rig.queues.did, []);
  now.abort();
  await drained;
  assert.equal(host.clock.now, 0);
  assert.deepEqual(host.rig.queues.did, [`handBack ${ID}#1`]);
});

test("a second signal while Redis is away leaves the bound alone", async () => {
  await using host = await openHost();
  await running(host);
  host.rig.queues.cut("before");
  assert.ok((await host.drain({ now: AbortSignal.abort(), answers: false })) <= BOUND_MS);
});

test("a daemon that holds nothing drains at once, also while Redis is away", async () => {
  await using host = await openHost();
  host.rig.queues.cut("before");
  await host.daemon.drain(GRACE_MS, new AbortController().signal);
  assert.equal(host.clock.now, 0);
});

test("a drain while settling is stuck ends in time, and the outputs stay", async () => {
  await using host = await openHost();
  await running(host);
  await using queues = host.rig.queues;
  queues.cut("hang", { verbs: ["complete"] });
  const { batch } = host.last;
  await batch.done();
  batch.end();
  await until("it is being settled", () => queues.asked.includes("complete"));
  assert.ok((await host.drain({ answers: false })) <= GRACE_MS + BOUND_MS);
  assert.deepEqual(await host.rig.spooled(), [`${ID}/1*`]);
});

test("a drain while a claim is being admitted, which hangs, ends in time", async () => {
  await using host = await openHost();
  const hung = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  host.rig.ledger.passedOnBy = async () => {
    asked.resolve();
    await hung.promise;
    return new Set();
  };
  await host.rig.add(ID);
  host.look();
  await asked.promise;
  assert.ok((await host.drain({ answers: false })) <= GRACE_MS + BOUND_MS);
  assert.equal(host.rig.queues.entry(ID).state, "active");
  hung.resolve();
});

test("a claim that lands after the drain began is given back", async () => {
  await using host = await openHost();
  const { queues } = host.rig;
  await host.rig.add(ID);
  const landing = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const claim = queues.claim.bind(queues);
  queues.claim = async (model) => {
    asked.resolve();
    await landing.promise;
    return claim(model);
  };
  host.look();
  await asked.promise;
  const drained = host.daemon.drain(GRACE_MS, new AbortController().signal);
  landing.resolve();
  await drained;
  assert.equal(host.clock.now, 0, "the grace is not used for it");
  assert.deepEqual(queues.did, [`handBack ${ID}#1`]);
});

test("a claim that lands when the drain is over is left to its lock", async () => {
  await using host = await openHost();
  await host.rig.add(ID);
  const landing = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const { queues } = host.rig;
  const claim = queues.claim.bind(queues);
  queues.claim = async (model) => {
    asked.resolve();
    await landing.promise;
    return claim(model);
  };
  host.look();
  await asked.promise;
  assert.ok((await host.drain({ answers: false })) <= GRACE_MS + BOUND_MS);
  landing.resolve();
  await until("it has landed", () => queues.entry(ID).state === "active");
  await until("it is given up", () => host.daemon.carrier.carrying === 0);
});

test("a drain in the middle of the recovery ends in time while Redis hangs", async () => {
  await using host = await openHost();
  await host.rig.add(ID);
  await host.rig.leaveInSpool(await host.rig.queues.take(), true);
  await using queues = host.rig.queues;
  queues.cut("hang");
  const ending = new AbortController();
  const recovering = host.daemon.recover(ending.signal);
  await until("the claim is being taken up", () => queues.asked.includes("adopt"));
  ending.abort();
  assert.ok((await host.drain({ answers: false })) <= GRACE_MS + BOUND_MS);
  await queues[Symbol.asyncDispose]();
  await recovering;
  assert.deepEqual(await host.rig.spooled(), [`${ID}/1*`]);
  // The next start finds it.
  await recoverClaims(host.rig.context, host.rig.carrier, new AbortController().signal);
  await until("it is stored", () => host.rig.carrier.carrying === 0);
  assert.equal(queues.entry(ID).state, "completed");
});

test("a job whose model leaves the disk while it waits to run again goes back to its queue", async (t) => {
  await using host = await openHost();
  await WAITING.arrive(host, t);
  await host.rig.context.models.markCorrupt("fake", "it vanished");
  host.daemon.modelsChanged();
  await until("it is back", () => host.rig.queues.waiting.length === 1);
  assert.deepEqual(host.rig.queues.did, [`handBack ${ID}#1`]);
  await host.daemon.drain(0, AbortSignal.abort());
});

test("a load that fails for the model's files hands back what waits for it, also when the damage cannot be noted", async (t) => {
  for (const isNoted of [true, false]) {
    await using host = await openHost();
    if (!isNoted) t.mock.method(host.rig.context.models, "markCorrupt", () => Promise.reject(new Error("ENOSPC")));
    host.rig.requests.onStart = () => {
      host.onLoad = () => {
        throw new AppError("MODEL_CORRUPT", "its weights are damaged");
      };
      host.last.crash();
    };
    await host.rig.add(ID);
    host.look();
    await until("it is back", () => host.rig.queues.did.length === 1);
    assert.deepEqual(host.rig.queues.did, [`handBack ${ID}#1`]);
    assert.equal(host.daemon.served.length, isNoted ? 0 : 1);
    await host.daemon.drain(0, AbortSignal.abort());
  }
});

test("members of a batch that crashed run again alone, one after the other, on fresh runners", async () => {
  await using host = await openHost();
  for (const id of ["request-1", "request-2", "request-3"]) await host.rig.add(id);
  host.look();
  await until("the batch runs", () => host.runners[0]?.isBusy === true);
  assert.equal(host.last.batch.jobs.length, 3);
  host.last.crash();
  for (let n = 0; n < 3; n += 1) {
    await until("one runs alone", () => host.last.isBusy);
    const { batch } = host.last;
    assert.equal(batch.jobs.length, 1);
    await batch.done();
    batch.end();
  }
  await until("all are completed", () => host.daemon.carrier.carrying === 0);
  assert.equal(host.runners.length, 2, "the second runner is good enough for all");
  assert.deepEqual(host.rig.queues.did.toSorted(), ["complete request-1#1", "complete request-2#1", "complete request-3#1"]);
  await host.daemon.drain(GRACE_MS, new AbortController().signal);
});
