import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { sweepStore, type SweepDeps, type SweepOptions, type SweepReport } from "../../src/requests/sweep-store.ts";
import { openRequests } from "../../src/state/open-requests.ts";
import type { ListedObject, ObjectStore } from "../../src/storage/object-store.ts";
import { openObjectStore } from "../../src/storage/object-store.ts";
import { startRedisRig, until, type RedisRig } from "../support/redis-rig.ts";
import { startSwift, type Swift } from "../support/swift.ts";
import { fillStore, LONG_AGO_MS, openSweepRig, RETENTION_MS, type SweepRig } from "../support/sweep-rig.ts";

const CHILD = join(import.meta.dirname, "../fixtures/sweep-child.ts");
const OPTIONS: SweepOptions = { retentionMs: RETENTION_MS, intervalMs: 3_600_000, signal: new AbortController().signal };

let redis: RedisRig;
let dir: string;
before(async () => {
  redis = await startRedisRig();
  dir = await mkdtemp(join(tmpdir(), "dryapi-sweep-"));
});
after(async () => {
  await redis[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

interface OpenedStore {
  readonly url: string;
  readonly root: string;
  readonly rig: SweepRig;
  /** Sets files back in time. */
  readonly age: (keys: readonly string[]) => Promise<void>;
}

async function openFileRig(): Promise<OpenedStore> {
  const root = join(dir, randomUUID());
  const url = pathToFileURL(root).href;
  const rig = await openSweepRig(redis, await openObjectStore(url));
  return { url, root, rig, age: (keys) => setBack(keys.map((key) => join(root, key))) };
}

async function setBack(paths: readonly string[]): Promise<void> {
  for (const path of paths) {
    const { mtimeMs } = await stat(path);
    const then = new Date(mtimeMs - LONG_AGO_MS);
    await utimes(path, then, then);
  }
}

async function sweep(deps: SweepDeps, more: Partial<SweepOptions> = {}): Promise<SweepReport> {
  const report = await sweepStore(deps, { ...OPTIONS, ...more });
  assert.ok(report !== null, "the sweep was not due, or another process is at it");
  return report;
}

/** As `fillStore` makes them. */
const REMOVED = { "ended-input": 4, "unnamed-output": 3, "unknown-request": 2, check: 1 };

describe("the sweep of a file store", () => {
  test("takes away every kind of leftover and nothing that lives, and a second one finds nothing", async () => {
    const { rig, age, root } = await openFileRig();
    const { stays, goes } = await fillStore(rig, age);
    await mkdir(join(root, "outputs/left"), { recursive: true });
    await writeFile(join(root, "outputs/left/.cut.png.0123456789ab.partial"), "half");
    await writeFile(join(root, "inputs/.young.png.0123456789ab.partial"), "being written");
    await setBack([join(root, "outputs/left/.cut.png.0123456789ab.partial"), join(root, "outputs/left")]);
    const report = await sweep(rig.sweeper());
    assert.deepEqual(await rig.keysIn(), stays);
    assert.deepEqual(report.removed, { ...REMOVED, "unfinished-upload": 1 });
    assert.equal(
      report.removedBytes,
      goes.reduce((sum, key) => sum + key.length, 0),
    );
    assert.partialDeepStrictEqual(report, { seen: stays.length + goes.length - 1, finished: true, shared: false });
    assert.deepEqual(
      (await readdir(join(root, "inputs"))).filter((name) => name.startsWith(".y")),
      [".young.png.0123456789ab.partial"],
    );
    await assert.rejects(stat(join(root, "outputs/left")), { code: "ENOENT" });

    assert.equal(await sweepStore(rig.sweeper(), OPTIONS), null, "not before the pause is over");
    await rig.makeDue();
    assert.deepEqual((await sweep(rig.sweeper())).removed, {});
    assert.deepEqual(await rig.keysIn(), stays);
  });

  test("when a request ends later, its leftovers go with a later sweep", async () => {
    const { rig } = await openFileRig();
    const { id, claim } = await rig.running();
    const keys = [`inputs/${id}/0.png`, `outputs/${id}/1/image.png`, `outputs/${id}/1/image.webp`];
    for (const key of keys) await rig.put(key);
    await sweep(rig.sweeper());
    assert.deepEqual(await rig.keysIn(), keys);
    await rig.completes(claim, `outputs/${id}/1/image.png`);
    await rig.makeDue();
    await sweep(rig.sweeper());
    assert.deepEqual(await rig.keysIn(), [`outputs/${id}/1/image.png`]);
  });

  test("of two sweepers one sweeps; and two that both think so do no harm", async () => {
    const { rig, age } = await openFileRig();
    const { stays } = await fillStore(rig, age);
    const reports = await Promise.all([rig.sweeper(), rig.sweeper()].map((deps) => sweepStore(deps, OPTIONS)));
    assert.equal(reports.filter((report) => report !== null).length, 1);
    assert.deepEqual(await rig.keysIn(), stays);

    const again = await openFileRig();
    const filled = await fillStore(again.rig, again.age);
    const sweepers = [1, 2].map((): SweepDeps => {
      const deps = again.rig.sweeper();
      const lease = { hold: async () => true, release: async () => undefined };
      // Neither is kept waiting by the pause of the other.
      const progress = { ...deps.turn.progress, isDue: async () => true };
      return Object.assign(deps, { turn: { ...deps.turn, lease, progress } });
    });
    await Promise.all(sweepers.map((deps) => sweep(deps)));
    assert.deepEqual(await again.rig.keysIn(), filled.stays);
  });

  test("a round ends at its budget, and the next one goes on there", async () => {
    const { rig } = await openFileRig();
    const kept = await fillWithEnded(rig, 450);
    const rounds: SweepReport[] = [];
    while (rounds.at(-1)?.finished !== true) {
      await rig.makeDue();
      rounds.push(await sweep(rig.sweeper(), { budget: 200 }));
    }
    assert.deepEqual(
      rounds.map(({ seen, finished }) => [seen, finished]),
      [
        [200, false],
        [200, false],
        [51, true],
      ],
    );
    assert.deepEqual(await rig.keysIn(), kept);
  });

  test("one that is killed in the middle: another goes on where it was", async () => {
    const { rig, url } = await openFileRig();
    const kept = await fillWithEnded(rig, 450);
    const namespace = /\{(.+)\}/.exec(rig.keys.prefix)?.[1] ?? "";
    const child = spawn(process.execPath, [CHILD, redis.server.url, namespace, url, "300"], { stdio: ["ignore", "pipe", "inherit"] });
    const exited = once(child, "exit");
    const [cursor] = (await once(createInterface({ input: child.stdout }), "line")) as [string];
    child.kill("SIGKILL");
    await exited;
    assert.equal((await rig.keysIn()).length, 451 - 200);
    assert.equal(await rig.redis.get(rig.keys.sweep.cursor), cursor);
    // Its lease runs out.
    const report = await until("the next sweeper", () => sweepStore(rig.sweeper(), OPTIONS));
    assert.deepEqual([report.seen, report.finished], [251, true]);
    assert.deepEqual(await rig.keysIn(), kept);
  });

  test("two systems on one store: what is unknown stays, one's own leftovers go", async () => {
    const { rig, age } = await openFileRig();
    const { stays, goes } = await fillStore(rig, age);
    const mark = "systems/other-system";
    await rig.put(mark);
    const report = await sweep(rig.sweeper());
    assert.equal(report.shared, true);
    assert.deepEqual(report.removed, { "ended-input": 4, "unnamed-output": 3, check: 1 });
    assert.equal((await rig.keysIn()).length, stays.length + goes.length - 8);
    await rig.store.delete(mark);
    await rig.makeDue();
    assert.deepEqual((await sweep(rig.sweeper())).removed, { "unknown-request": 2 });
    assert.deepEqual(await rig.keysIn(), stays);
  });

  test("while Redis is away nothing is deleted", async () => {
    const { rig, age } = await openFileRig();
    const { stays, goes } = await fillStore(rig, age);
    const away = await redis.connect("worker", 50);
    const deps = Object.assign(rig.sweeper(), {
      requests: openRequests({ redis: away, keys: rig.keys, retentionMs: RETENTION_MS }),
      turn: {
        lease: { hold: async () => true, release: async () => undefined },
        progress: { isDue: async () => true, pause: async () => undefined, cursor: async () => null, setCursor: async () => undefined },
        systemId: async () => "this-system",
      },
    });
    redis.freeze();
    try {
      await assert.rejects(sweep(deps), { code: "REDIS_UNAVAILABLE" });
    } finally {
      redis.thaw();
    }
    assert.equal((await rig.keysIn()).length, stays.length + goes.length - 1, "but for the check, which needs no Redis");
  });
});

describe("the sweep of an S3 store", () => {
  let swift: Swift;
  before(async () => {
    swift = await startSwift();
    await swift.makeBucket("swept");
  });
  after(() => swift?.[Symbol.asyncDispose]());

  test("takes away every kind of leftover and nothing that lives, and a second one finds nothing", async () => {
    await using store = await openObjectStore(swift.urlOf("swept"), { credentials: swift.credentials });
    const old = new Set<string>();
    const rig = await openSweepRig(redis, withAges(store, old));
    const { stays } = await fillStore(rig, async (keys) => keys.forEach((key) => old.add(key)));
    const report = await sweep(rig.sweeper());
    assert.deepEqual(await rig.keysIn(store), stays);
    assert.deepEqual([report.removed, report.finished, report.problem], [REMOVED, true, undefined]);
    await rig.makeDue();
    assert.deepEqual((await sweep(rig.sweeper())).removed, {});
    assert.deepEqual(await rig.keysIn(store), stays);
  });

  test("a round goes on behind its cursor", async () => {
    await swift.makeBucket("rounds");
    await using store = await openObjectStore(swift.urlOf("rounds"), { credentials: swift.credentials });
    const rig = await openSweepRig(redis, store);
    const { id, claim } = await rig.running();
    await rig.completes(claim, `outputs/${id}/1/kept.png`);
    for (const key of [`inputs/${id}/0.png`, `outputs/${id}/1/kept.png`, `outputs/${id}/1/late.png`]) await rig.put(key);
    await rig.sweeper().turn.progress.setCursor(`outputs/${id}/1/kept.png`);
    assert.partialDeepStrictEqual(await sweep(rig.sweeper()), { seen: 1, removed: { "unnamed-output": 1 }, finished: true });
    assert.deepEqual(await rig.keysIn(), [`inputs/${id}/0.png`, `outputs/${id}/1/kept.png`]);
  });
});

/** The real store, some of whose objects look old: a server's times cannot be set. */
function withAges(store: ObjectStore, old: ReadonlySet<string>): ObjectStore {
  const list = async function* (...args: Parameters<ObjectStore["list"]>): AsyncGenerator<ListedObject> {
    for await (const object of store.list(...args))
      yield old.has(object.key) ? { ...object, modifiedAt: object.modifiedAt - LONG_AGO_MS } : object;
  };
  return new Proxy(store, {
    get: (target, name) => {
      if (name === "list") return list;
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Inputs of one failed request, and one object of a running one, which is the last. Returns what is to stay. */
async function fillWithEnded(rig: SweepRig, count: number): Promise<readonly string[]> {
  const failed = await rig.running();
  await rig.queues.fail(failed.claim, { code: "POISON_JOB", message: "twice" });
  const paths = Array.from({ length: count }, (_, index) => `inputs/${failed.id}/${index}.png`);
  for (const path of paths) await rig.put(path);
  const live = await rig.running();
  const kept = `outputs/${live.id}/1/image.png`;
  await rig.put(kept);
  return [kept];
}
