import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { FakeClock } from "../../../test/support/fake-clock.ts";
import { nextTurn } from "../../../test/support/worker-rig.ts";
import { AppError } from "../../protocol/error.ts";
import { DeviceCare } from "./device-care.ts";
import { DeviceWatch } from "./device-watch.ts";

const DEAD = new AppError("DEVICE_UNAVAILABLE", "device cuda:0 cannot be used");

/** One GPU; time goes when the test says so, and what a proof comes to is the test's. */
class Rig implements Disposable {
  readonly clock = new FakeClock();
  readonly told: string[] = [];
  proofs = 0;
  isDead = false;
  isUsed = false;
  /** Settles the proofs that wait for it. */
  hold: Promise<void> | null = null;
  readonly stop = new AbortController();
  readonly watch = new DeviceWatch(({ device }) => {
    this.told.push(`${device} out`);
    this.care.quarantined(device);
  });
  readonly care: DeviceCare;
  readonly #performance: { readonly now: () => number };

  constructor(first: Promise<unknown> | null = Promise.resolve()) {
    const origin = performance.now();
    this.#performance = mock.method(performance, "now", () => origin + this.clock.now) as never;
    this.care = new DeviceCare({
      devices: [{ id: "cuda:0", uuid: "GPU-a" }],
      proofs: new Map(first === null ? [] : [["cuda:0", first]]),
      prove: async () => {
        this.proofs += 1;
        const isDead = this.isDead;
        await this.hold;
        if (isDead) throw DEAD;
      },
      watch: this.watch,
      isUsed: () => this.isUsed,
      onProved: (device) => this.told.push(`${device} in`),
      sleep: this.clock.sleep,
    });
    void this.care.run(this.stop.signal);
  }

  async pass(ms: number): Promise<void> {
    await this.turns();
    this.clock.advance(ms);
    await this.turns();
  }

  async turns(): Promise<void> {
    for (let n = 0; n < 10; n += 1) await nextTurn(0);
  }

  [Symbol.dispose](): void {
    this.stop.abort();
    (this.#performance as unknown as { mock: { restore(): void } }).mock.restore();
  }
}

test("a device gets no work before its first proof has passed, and readiness says so", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  using rig = new Rig(promise);
  await rig.turns();
  assert.deepEqual(rig.care.report(), { ok: false, detail: "cuda:0 is not proved yet" });
  resolve();
  await rig.turns();
  assert.deepEqual(rig.told, ["cuda:0 in"]);
  assert.deepEqual(rig.care.report(), { ok: true, detail: "cuda:0" });
});

test("one that fails its proof is out of service, proved anew after 30 s and then after twice as long, and comes back", async () => {
  using rig = new Rig(Promise.reject(DEAD));
  rig.isDead = true;
  await rig.turns();
  assert.deepEqual(rig.told, ["cuda:0 out"]);
  assert.match(
    rig.care.report().detail ?? "",
    /^cuda:0 is out of service, proved anew at \d{4}-.*Z: it failed its proof: DEVICE_UNAVAILABLE: device/,
  );
  assert.equal(rig.care.report().ok, false);
  await rig.pass(29_000);
  assert.equal(rig.proofs, 0);
  await rig.pass(1_000);
  assert.equal(rig.proofs, 1);
  await rig.pass(30_000);
  assert.equal(rig.proofs, 1);
  rig.isDead = false;
  await rig.pass(30_000);
  assert.equal(rig.proofs, 2);
  assert.deepEqual(rig.told, ["cuda:0 out", "cuda:0 out", "cuda:0 in"]);
  assert.equal(rig.care.report().ok, true);
});

test("an idle device is proved every five minutes, a used one by its runners", async () => {
  using rig = new Rig();
  await rig.pass(299_000);
  assert.equal(rig.proofs, 0);
  await rig.pass(1_000);
  assert.equal(rig.proofs, 1);
  rig.isUsed = true;
  await rig.pass(300_000);
  await rig.pass(300_000);
  assert.equal(rig.proofs, 1);
  rig.isUsed = false;
  rig.isDead = true;
  await rig.pass(300_000);
  assert.equal(rig.proofs, 2);
  assert.deepEqual(rig.told, ["cuda:0 in", "cuda:0 out"]);
});

test("a device whose runner still works when its quarantine ends is proved once the runner is gone", async () => {
  using rig = new Rig();
  await rig.turns();
  rig.isUsed = true;
  rig.watch.probeFailed("cuda:0", { kind: "ping" }, DEAD);
  await rig.pass(30_000);
  await rig.pass(5_000);
  assert.equal(rig.proofs, 0);
  rig.isUsed = false;
  await rig.pass(5_000);
  assert.equal(rig.proofs, 1);
  assert.deepEqual(rig.told, ["cuda:0 in", "cuda:0 out", "cuda:0 in"]);
});

test("a proof that passes while jobs have the device taken out does not bring it back before its time", async () => {
  using rig = new Rig();
  const held = Promise.withResolvers<void>();
  rig.hold = held.promise;
  await rig.pass(300_000);
  assert.equal(rig.proofs, 1);
  for (const job of ["a", "b", "c"]) rig.watch.faulted("cuda:0", job, DEAD);
  held.resolve();
  rig.hold = null;
  await rig.turns();
  assert.equal(rig.care.isInService("cuda:0"), false);
  await rig.pass(30_000);
  assert.equal(rig.care.isInService("cuda:0"), true);
});

test("a device that the driver tells nothing of any more is proved at once, and not at every look", async () => {
  using rig = new Rig();
  await rig.turns();
  rig.isDead = true;
  for (const isTold of [false, false, true, false, false]) rig.care.measured("cuda:0", isTold);
  await rig.turns();
  assert.equal(rig.proofs, 0);
  for (let n = 0; n < 5; n += 1) rig.care.measured("cuda:0", false);
  await rig.turns();
  assert.equal(rig.proofs, 1);
  assert.deepEqual(rig.told, ["cuda:0 in", "cuda:0 out"]);
});

test("a device without a proof under way counts as proved", async () => {
  using rig = new Rig(null);
  assert.equal(rig.care.isInService("cuda:0"), true);
  await rig.turns();
  assert.deepEqual(rig.told, []);
});
