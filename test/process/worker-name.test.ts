import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openRegistry } from "../../src/state/open-registry.ts";
import type { Registry, WorkerAnnouncement } from "../../src/state/state-types.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const NAME = "gpu-7";
/** A daemon on a machine that nobody here can look at. */
const FAR: WorkerAnnouncement = {
  worker: NAME,
  host: "far-away",
  pid: 4711,
  models: [],
  devices: [],
  draining: false,
  at: 1,
  instance: "that of the far one",
  process: { pid: 4711, startTicks: "1", bootId: "another", pidNamespace: "another" },
  since: Date.UTC(2026, 0, 2),
};
/** Longer than any wait of a test. */
const LONG_MS = 3_600_000;

type Spawned = Omit<WorkerProcess, "admin">;

describe("a worker's name", () => {
  let system: TestSystem;
  let registry: Registry;
  let count = 0;

  before(async () => {
    system = await startSystem({ DRYAPI_WORKER_NAME: NAME });
    registry = openRegistry({ redis: system.client, keys: system.keys });
  });
  after(() => system[Symbol.asyncDispose]());

  /** With a spool of its own: that two daemons may not share one is another matter. */
  function spawn(): Spawned {
    count += 1;
    return system.spawnWorker({ DRYAPI_STATE_DIR: join(system.dir, `state-${count}`) });
  }

  async function ended({ process: child }: Spawned): Promise<{ readonly code: number | null; readonly said: string }> {
    let said = "";
    child.stderr?.on("data", (text: string) => (said += text));
    const [code] = (await once(child, "close")) as [number | null];
    return { code, said };
  }

  const isWaiting = ({ msg }: { readonly msg: string }): boolean => msg === "waiting for the worker's name";
  const isReady = ({ msg }: { readonly msg: string }): boolean => msg === "worker ready";

  /** As a version that knows nothing of names does: whatever is there is replaced. */
  async function overwrite(ttlMs: number): Promise<void> {
    const { instance, process, since, ...old } = FAR;
    assert.ok(instance !== undefined && process !== undefined && since !== undefined);
    await registry.announce(old, ttlMs);
  }

  test("a second daemon is refused while the first lives; one that was killed is followed at once", async () => {
    const first = spawn();
    await first.line(isReady);
    const { code, said } = await ended(spawn());
    assert.equal(code, 2, said);
    assert.match(said, /DRYAPI_WORKER_NAME is "gpu-7", which is the name of a daemon on host /);
    assert.match(
      said,
      new RegExp(`\\(pid ${first.pid}, since 20\\d\\d-.*Z\\), expected a name of its own for each daemon; set DRYAPI_WORKER_NAME`),
    );
    await first.kill9();
    const next = spawn();
    await next.line(isReady);
    assert.equal(next.lines.some(isWaiting), false);
    assert.equal(await next.stop(), 0);
    assert.deepEqual(await registry.list(), [], "the name was given back");
  });

  test("one of another machine is waited for until it is known to live: exit 2", async () => {
    await registry.announce(FAR, LONG_MS);
    const second = spawn();
    const end = ended(second);
    await second.line(isWaiting);
    await registry.announce({ ...FAR, at: 2 }, LONG_MS);
    const { code, said } = await end;
    assert.equal(code, 2, said);
    assert.match(said, /the name of a daemon on host far-away \(pid 4711, since 2026-01-02T00:00:00.000Z\)/);
    await registry.withdraw(NAME);
  });

  test("one of another machine that is dead is waited for until its entry has expired; SIGTERM ends the wait", async () => {
    await registry.announce(FAR, LONG_MS);
    const called = spawn();
    await called.line(isWaiting);
    assert.equal(await called.stop(), 0);
    const patient = spawn();
    await patient.line(isWaiting);
    // As if its time were over: nothing but its expiry changes.
    await registry.withdraw(NAME);
    await patient.line(isReady);
    assert.equal(await patient.stop(), 0);
  });

  test("a running daemon whose name another has taken claims nothing, says so, and goes on when it is free", async () => {
    const worker = spawn();
    const { admin } = await worker.line(isReady);
    await overwrite(LONG_MS);
    const lost = await worker.line(({ msg }) => msg.startsWith("no more jobs are claimed: another daemon has taken this worker's name"));
    assert.match(String(lost["holder"]), /a daemon on host far-away \(pid 4711\)/);
    const ready = await fetch(`${String(admin)}/readyz`);
    assert.equal(ready.status, 503);
    assert.match(await ready.text(), /paused: name/);
    const id = await system.submit({ model: "fake", params: { steps: 1 } });
    const metrics = async (): Promise<string> => (await fetch(`${String(admin)}/metrics`)).text();
    await system.until(
      "the worker's look at the job",
      async () => /dryapi_queue_waiting\{model="fake"\} 1/.test(await metrics()) || undefined,
    );
    assert.equal(await system.state("fake", id), "waiting");
    await system.client.hdel(system.keys.workers, NAME);
    await worker.line(({ msg }) => msg === "the worker's name is free again");
    assert.equal((await system.ended("fake", id)).state, "completed");
    assert.equal(await worker.stop(), 0);
  });
});
