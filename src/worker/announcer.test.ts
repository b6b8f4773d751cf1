import assert from "node:assert/strict";
import { test } from "node:test";
import type { NameHolder, Registry, WorkerAnnouncement } from "../state/state-types.ts";
import { Announcer, type AnnouncedDaemon } from "./announcer.ts";
import type { WorkerContext } from "./worker-context.ts";

const OWN = { pid: 1, startTicks: "1", bootId: "here", pidNamespace: "ours" };
const OTHER: NameHolder = { text: "other", instance: null, host: "gpu-7", pid: 4711, since: null, process: null, draining: false };

/** A daemon that announces itself, and who has its name. */
class Rig {
  holder: NameHolder | null = null;
  now = 0;
  readonly announced: WorkerAnnouncement[] = [];
  readonly withdrawn: (string | undefined)[] = [];
  readonly paused = new Set<string>();
  readonly lines: string[] = [];
  readonly served: string[] = ["fake"];
  readonly announcer: Announcer;

  constructor() {
    const registry: Registry = {
      announce: async (worker) => {
        this.announced.push(worker);
        return this.holder;
      },
      withdraw: async (_worker, instance) => void this.withdrawn.push(instance),
      list: async () => [],
    };
    const daemon: AnnouncedDaemon = {
      served: this.served,
      draining: false,
      devices: [],
      isPaused: (reason) => this.paused.has(reason),
      pause: (reason) => void this.paused.add(reason),
      resume: (reason) => void this.paused.delete(reason),
    };
    const say = (_fields: object, line: string): void => void this.lines.push(line);
    const context = {
      config: { workerName: "vm", models: null },
      models: { list: () => [], invalid: () => [] },
      log: { error: say, info: say },
      registry,
    } as unknown as WorkerContext;
    this.announcer = new Announcer(context, daemon, OWN, () => this.now);
  }

  async after(ms: number): Promise<number> {
    this.now += ms;
    const before = this.announced.length;
    await this.announcer.check();
    return this.announced.length - before;
  }
}

test("it announces itself every ten seconds, and at once when something changed", async () => {
  const rig = new Rig();
  assert.equal(await rig.after(0), 1);
  assert.equal(await rig.after(9_999), 0);
  assert.equal(await rig.after(1), 1);
  rig.served.push("fake-b");
  assert.equal(await rig.after(1_000), 1);
  const [first, ...more] = rig.announced;
  assert.ok(first?.instance !== undefined && first.instance.length > 10);
  assert.ok(
    more.every(({ instance }) => instance === first.instance),
    "one instance for one daemon",
  );
});

test("a daemon that lost its name claims nothing, says so once, and goes on when the name is free", async () => {
  const rig = new Rig();
  await rig.after(0);
  rig.holder = OTHER;
  await rig.after(10_000);
  assert.deepEqual([...rig.paused], ["name"]);
  assert.equal(await rig.after(4_999), 0, "it does not ask all the time");
  assert.equal(await rig.after(1), 1);
  assert.deepEqual(
    rig.lines.map((line) => line.slice(0, 25)),
    ["no more jobs are claimed:"],
  );
  rig.holder = null;
  await rig.after(5_000);
  assert.deepEqual([...rig.paused], []);
  assert.equal(rig.lines.at(-1), "the worker's name is free again");
});

test("a start without Redis claims nothing until the name is known to be its own", async () => {
  const rig = new Rig();
  const stop = AbortSignal.abort();
  await rig.announcer.start({ signal: stop, onWait: () => assert.fail("nobody is waited for") });
  assert.deepEqual([...rig.paused], ["name"]);
  await rig.after(1_000);
  assert.deepEqual([...rig.paused], []);
});

test("it withdraws its own entry, never another's", async () => {
  const rig = new Rig();
  await rig.after(0);
  await rig.announcer.withdraw();
  assert.deepEqual(rig.withdrawn, [rig.announced[0]?.instance]);
});
