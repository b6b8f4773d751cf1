import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { openStoreHealth, type StoreCheck } from "./store-health.ts";

const REFUSED = new AppError("STORAGE_REJECTED", "put s3://b/x: AccessDenied");
const AWAY = new AppError("STORAGE_UNAVAILABLE", "put s3://b/x: ECONNREFUSED");
const NEVER = { firstMs: 3_600_000, factor: 1, maxMs: 3_600_000, jitter: 0 };
const AT_ONCE = { firstMs: 0, factor: 1, maxMs: 0, jitter: 0 };

/** A store whose looks answer in turn with these; the last one again and again. */
function rig(answers: readonly (AppError | null)[], options: Parameters<typeof openStoreHealth>[0] | object = {}) {
  let looks = 0;
  const waiting: { readonly count: number; readonly resolve: () => void }[] = [];
  const store = {
    label: "test store",
    check: async () => {
      const answer = answers[Math.min(looks, answers.length - 1)] ?? null;
      looks += 1;
      for (const { count, resolve } of waiting) if (looks >= count) resolve();
      if (answer !== null) throw answer;
    },
  };
  const health = openStoreHealth({ store, everyMs: 3_600_000, backoff: NEVER, ...options });
  const stop = new AbortController();
  const told: StoreCheck[] = [];
  const tellers: { readonly count: number; readonly resolve: () => void }[] = [];
  return {
    health,
    told,
    looks: () => looks,
    /** Resolves once that many looks were taken. */
    looked: (count: number) => new Promise<void>((resolve) => (looks >= count ? resolve() : waiting.push({ count, resolve }))),
    /** Resolves once that many changes were told. */
    heard: (count: number) => new Promise<void>((resolve) => (told.length >= count ? resolve() : tellers.push({ count, resolve }))),
    watch: () =>
      health.watch((check) => {
        told.push(check);
        for (const { count, resolve } of tellers) if (told.length >= count) resolve();
      }, stop.signal),
    stop: () => stop.abort(),
  };
}

test("a start: a refusal ends it and says what to do, an outage does not, and a store that works takes one look", async () => {
  const signal = new AbortController().signal;
  await assert.rejects(
    rig([REFUSED]).health.admit(signal),
    (thrown) =>
      thrown instanceof AppError &&
      thrown.code === "STORAGE_REJECTED" &&
      /test store takes no writes: .*AccessDenied; give this program the right/.test(thrown.message),
  );
  const away = rig([AWAY]);
  await away.health.admit(signal);
  assert.deepEqual([away.health.last.ok, away.health.last.lasting], [false, false]);
  const well = rig([null]);
  await well.health.admit(signal);
  assert.deepEqual([well.health.last.ok, well.looks()], [true, 1]);
});

test("a wrong temporary folder is a setting of this machine, not the store's fault", async () => {
  const noTemp = new AppError("CONFIG_INVALID", "the temporary folder /nowhere cannot be used");
  await assert.rejects(rig([noTemp]).health.admit(new AbortController().signal), noTemp);
});

test("what was not tried is not ok, and is looked at once by the watch", async () => {
  const { health, watch, heard, told, stop, looks } = rig([null]);
  assert.equal(health.last.ok, false);
  const watching = watch();
  await heard(1);
  assert.deepEqual([told.map(({ ok }) => ok), looks()], [[true], 1]);
  stop();
  await watching;
});

test("an outage is told once and looked at with backoff until it is over", async () => {
  const { watch, heard, told, stop, looks } = rig([AWAY, AWAY, REFUSED, null], { backoff: AT_ONCE });
  const watching = watch();
  await heard(2);
  assert.deepEqual([told.map(({ ok }) => ok), looks()], [[false, true], 4]);
  stop();
  await watching;
});

test("a failed transfer makes a look, unless one has just found all well", async () => {
  let now = 0;
  const { health, watch, heard, looked, told, stop, looks } = rig([null, AWAY], { now: () => now, doubtMs: 10_000 });
  const watching = watch();
  await heard(1);
  now = 9_999;
  health.doubt();
  assert.equal(looks(), 1);
  now = 10_000;
  health.doubt();
  await looked(2);
  await heard(2);
  assert.deepEqual(
    told.map(({ ok }) => ok),
    [true, false],
  );
  stop();
  await watching;
});

test("an upload that goes through is as good as a look, at once", async () => {
  const { health, watch, heard, told, stop, looks } = rig([AWAY]);
  const watching = watch();
  await heard(1);
  health.proven();
  await heard(2);
  assert.deepEqual([told.map(({ ok }) => ok), looks()], [[false, true], 1]);
  assert.match(health.last.detail, /an upload went through/);
  stop();
  await watching;
});

test("a store that works is looked at again only when its time has come and nothing was written", async () => {
  const { watch, looked, stop, told } = rig([null, null, AWAY], { everyMs: 5 });
  const watching = watch();
  await looked(3);
  stop();
  await watching;
  assert.equal(told[0]?.ok, true);
});
