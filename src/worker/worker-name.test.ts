import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProcessIdentity } from "../lib/process-identity.ts";
import { AppError } from "../protocol/error.ts";
import type { NameHolder } from "../state/state-types.ts";
import { WorkerName } from "./worker-name.ts";

const OWN: ProcessIdentity = { pid: 1, startTicks: "1", bootId: "here", pidNamespace: "ours" };
const HOLDER: NameHolder = {
  text: "entry 1",
  instance: "other",
  host: "gpu-7",
  pid: 4711,
  since: Date.UTC(2026, 0, 2),
  process: { ...OWN, pid: 4711 },
  draining: false,
};

/** What an older version announces. */
const OLD: NameHolder = { ...HOLDER, instance: null, since: null, process: null };

type Judged = "alive" | "gone" | "unknown";

/** `turns`: who has the name at each look, null for nobody; an error is thrown. The last one stays. */
async function take(turns: readonly (NameHolder | null | AppError)[], judged: Judged = "unknown") {
  const replaced: (string | undefined)[] = [];
  const waits: string[] = [];
  let turn = 0;
  const name = new WorkerName({
    name: "vm",
    own: OWN,
    announce: async (replaces) => {
      replaced.push(replaces);
      const found = turns[Math.min(turn, turns.length - 1)] ?? null;
      if (replaces !== undefined && found !== null && !(found instanceof AppError) && found.text === replaces) return null;
      turn += 1;
      if (found instanceof AppError) throw found;
      return found;
    },
    judge: async () => judged,
    sleep: async () => undefined,
  });
  const taken = await name.take({ signal: new AbortController().signal, onWait: (message) => waits.push(message) });
  return { taken, waits, replaced };
}

const refused =
  /DRYAPI_WORKER_NAME is "vm", which is the name of a daemon on host gpu-7 \(pid 4711, since 2026-01-02T00:00:00.000Z\), expected a name of its own/;

function isRefusal(thrown: unknown): boolean {
  return thrown instanceof AppError && thrown.code === "CONFIG_INVALID" && refused.test(thrown.message);
}

test("a name that nobody has is taken at once", async () => {
  assert.deepEqual(await take([null]), { taken: true, waits: [], replaced: [undefined] });
});

test("one that a living process of this machine has is refused at once, with who it is and what to set", async () => {
  await assert.rejects(take([HOLDER], "alive"), isRefusal);
});

test("that of a process of this machine which is gone is taken over at once", async () => {
  assert.deepEqual(await take([HOLDER], "gone"), { taken: true, waits: [], replaced: [undefined, "entry 1"] });
});

test("a holder that cannot be looked at is waited for until its entry has expired", async () => {
  const { taken, waits } = await take([HOLDER, HOLDER, HOLDER, null]);
  assert.equal(taken, true);
  assert.equal(waits.length, 1, "said once");
  assert.match(waits[0] ?? "", /the worker name "vm" is that of a daemon on host gpu-7/);
});

test("a holder that announces itself again while it is waited for lives: the name is refused", async () => {
  await assert.rejects(take([HOLDER, HOLDER, { ...HOLDER, text: "entry 2" }]), isRefusal);
});

test("a daemon of an older version counts in the same way", async () => {
  assert.equal((await take([OLD, OLD, null])).taken, true);
  await assert.rejects(take([OLD, { ...OLD, text: "entry 2" }]), /name of a daemon on host gpu-7 \(pid 4711\), expected/);
});

test("a holder that drains is waited for, even one that is seen to live", async () => {
  const draining = { ...HOLDER, draining: true };
  const { taken } = await take([draining, { ...draining, text: "entry 2" }, { ...draining, text: "entry 3" }, null], "alive");
  assert.equal(taken, true);
});

test("another holder that comes meanwhile is waited for anew", async () => {
  const next = { ...HOLDER, instance: "third", text: "entry of the third" };
  const { taken, waits } = await take([HOLDER, next, next, null]);
  assert.deepEqual([taken, waits.length], [true, 2]);
});

test("while Redis is away nothing is refused, and the name is not taken", async () => {
  assert.equal((await take([new AppError("REDIS_UNAVAILABLE", "away")])).taken, false);
});

test("the wait ends with the signal", async () => {
  const stop = new AbortController();
  const name = new WorkerName({ name: "vm", own: OWN, announce: async () => HOLDER, judge: async () => "unknown" });
  assert.equal(await name.take({ signal: stop.signal, onWait: () => stop.abort() }), false);
});
