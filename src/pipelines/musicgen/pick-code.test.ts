import assert from "node:assert/strict";
import { test } from "node:test";
import { TorchRandom } from "../diffusion/torch-random.ts";
import { guided, pickCode } from "./pick-code.ts";

const LOGITS = Float32Array.of(0, Math.log(2), Math.log(4), -Infinity, Math.log(1));

test("codes come as often as they are probable, and those outside of topK never", () => {
  const draws = 20_000;
  const counts = (topK: number, temperature = 1): number[] => {
    const random = new TorchRandom(7);
    const found = [0, 0, 0, 0, 0];
    for (let draw = 0; draw < draws; draw++)
      found[pickCode(LOGITS, { topK, temperature }, random.exponential(LOGITS.length))]! += 1 / draws;
    return found;
  };
  const near = (found: readonly number[], expected: readonly number[]): void =>
    found.forEach((share, code) => assert.ok(Math.abs(share - (expected[code] ?? 0)) < 0.02, `code ${code}: ${share}`));
  near(counts(250), [1 / 8, 2 / 8, 4 / 8, 0, 1 / 8]);
  near(counts(2), [0, 1 / 3, 2 / 3, 0, 0]);
  near(counts(250, 0.5), [1 / 22, 4 / 22, 16 / 22, 0, 1 / 22]);
});

test("a topK of one takes the best", () => {
  assert.equal(pickCode(LOGITS, { topK: 1, temperature: 1 }, new Float32Array(0)), 2);
});

test("guidance goes away from what comes without the text", () => {
  assert.deepEqual([...guided(Float32Array.of(1, 2), Float32Array.of(0, 3), 3)], [3, 0]);
  assert.deepEqual([...guided(Float32Array.of(1, 2), Float32Array.of(0, 3), 1)], [1, 2]);
});
