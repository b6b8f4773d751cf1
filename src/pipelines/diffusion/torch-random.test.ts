import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { TorchRandom } from "./torch-random.ts";

function near(actual: Float32Array, expected: readonly number[], tolerance = 6e-5): void {
  assert.equal(actual.length, expected.length);
  for (const [i, value] of expected.entries()) {
    assert.ok(Math.abs(actual[i]! - value) <= tolerance, `value ${i} is ${actual[i]}, expected ${value}`);
  }
}

test("the engine is the standard MT19937", () => {
  const random = new TorchRandom(5489);
  assert.deepEqual([random.uint32(), random.uint32(), random.uint32()], [3499211612, 581869302, 3890346734]);
});

test("the ten thousandth word of the standard seed is the one that C++ prescribes", () => {
  const random = new TorchRandom(5489);
  let last = 0;
  for (let i = 0; i < 10_000; i++) last = random.uint32();
  assert.equal(last, 4123659995);
});

test("draws of 16 and more equal torch's printouts", () => {
  near(
    new TorchRandom(42).randn(16),
    [
      1.9269, 1.4873, 0.9007, -2.1055, 0.6784, -1.2345, -0.0431, -1.6047, -0.7521, 1.6487, -0.3925, -1.4036, -0.7279, -0.5594, -0.7688,
      0.7624,
    ],
  );
});

test("a ragged tail redraws the last 16 values", () => {
  near(
    new TorchRandom(0).randn(20),
    [
      -1.1258, -1.1524, -0.2506, -0.4339, 0.5988, -1.5551, -0.3414, 1.853, 0.4681, -0.1577, 1.4437, 0.266, 1.3894, 1.5863, 0.9463, -0.8437,
      0.9318, 1.259, 2.005, 0.0537,
    ],
  );
});

test("small draws keep the second value of a pair for the next call", () => {
  const random = new TorchRandom(0);
  near(random.randn(3), [1.541, -0.2934, -2.1788]);
  near(random.randn(3), [0.5684, -1.0845, -1.3986]);
});

test("only the low 32 bits of a seed count", () => {
  assert.deepEqual(new TorchRandom(2 ** 32 + 42).randn(32), new TorchRandom(42).randn(32));
  const largest = new TorchRandom(Number.MAX_SAFE_INTEGER).randn(16);
  assert.deepEqual(largest, new TorchRandom(0xffffffff).randn(16));
});

test("a seed that is no integer from 0 to 2^53-1 is refused", () => {
  for (const seed of [-1, 0.5, 2 ** 53, Number.NaN]) assert.throws(() => new TorchRandom(seed), RangeError);
});

interface TorchDraws {
  readonly draws: readonly {
    readonly seed: number;
    /** Sizes of the calls, one after the other on one generator. */
    readonly counts: readonly number[];
    /** First and last 16 values of each call, or all of a shorter one. */
    readonly first: readonly (readonly number[])[];
    readonly last: readonly (readonly number[])[];
  }[];
}

test("every draw that torch itself made comes out within 5e-7", async () => {
  const path = new URL("../../../test/fixtures/torch-randn.json", import.meta.url);
  const { draws } = JSON.parse(await readFile(path, "utf8")) as TorchDraws;
  assert.ok(draws.length >= 40);
  assert.ok(draws.some(({ seed }) => seed === Number.MAX_SAFE_INTEGER));
  for (const { seed, counts, first, last } of draws) {
    const random = new TorchRandom(seed);
    for (const [call, count] of counts.entries()) {
      const values = random.randn(count);
      near(values.subarray(0, first[call]?.length), first[call] ?? [], 5e-7);
      near(values.subarray(count - (last[call]?.length ?? 0)), last[call] ?? [], 5e-7);
    }
  }
});
