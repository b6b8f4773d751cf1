import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { parseFlowMatchConfig } from "../diffusion/flow-match-schedule.ts";
import { ltxSchedule } from "./ltx-schedule.ts";
import { ropeTables } from "./rope.ts";
import { latentFrames, nearestFrames, packVideo, sliceFrames, unpackFrames } from "./video-latents.ts";

interface Tables {
  readonly schedules: readonly {
    readonly kind: "classic" | "linear-quadratic";
    readonly steps: number;
    readonly tokens: number;
    readonly timesteps: readonly number[] | null;
    readonly sigmas: readonly number[];
  }[];
  readonly ropes: readonly {
    readonly width: number;
    readonly mode: "classic" | "condition";
    readonly fps: number;
    readonly frames: number;
    readonly height: number;
    readonly columns: number;
    readonly cos: readonly (readonly number[])[];
    readonly sin: readonly (readonly number[])[];
  }[];
}

const tables = JSON.parse(await readFile(new URL("../../../test/fixtures/ltx-video/tables.json", import.meta.url), "utf8")) as Tables;
const MODEL = new URL("../../../models/tiny-ltx-video/", import.meta.url);
const configOf = async (folder: string) =>
  parseFlowMatchConfig(JSON.parse(await readFile(new URL(`${folder}/scheduler_config.json`, MODEL), "utf8")), folder);
const classic = await configOf("scheduler_classic");
const condition = await configOf("scheduler");

for (const { kind, steps, tokens, timesteps, sigmas } of tables.schedules) {
  test(`${kind}, ${steps} steps${timesteps === null ? "" : " given"}: noise levels equal diffusers' to 1e-6`, () => {
    const mode = kind === "classic" ? "classic" : "condition";
    const ours = ltxSchedule({ config: mode === "classic" ? classic : condition, mode, steps, tokens, timesteps });
    assert.equal(ours.sigmas.length, sigmas.length);
    for (const [i, sigma] of sigmas.entries()) assert.ok(Math.abs(ours.sigmas[i]! - sigma) <= 1e-6, `${i}: ${ours.sigmas[i]} and ${sigma}`);
    assert.equal(ours.timesteps.length, steps);
  });
}

for (const { width, mode, fps, frames, height, columns, cos, sin } of tables.ropes) {
  // 1e-3: a unit in the last place of the largest angle (rope.ts).
  test(`rotary embedding, width ${width}, ${mode}: equals diffusers' to 1e-3, to 1e-5 in the mean`, () => {
    const shape = { channels: 1, frames, height, width: columns };
    const ours = ropeTables({ shape, fps, placement: mode, width });
    const half = width / 2;
    let largest = 0;
    let sum = 0;
    let count = 0;
    for (const [table, expected] of [
      [ours.cos, cos],
      [ours.sin, sin],
    ] as const) {
      for (const [row, values] of expected.entries()) {
        for (const [column, value] of values.entries()) {
          const difference = Math.abs(table[row * 311 * half + column * 31]! - value);
          largest = Math.max(largest, difference);
          sum += difference;
          count++;
        }
      }
    }
    assert.ok(count > 0 && largest <= 1e-3 && sum / count <= 1e-5, `largest ${largest}, mean ${sum / count}`);
  });
}

test("a picture at a later frame comes before the clip, at its own time", () => {
  const shape = { channels: 1, frames: 3, height: 1, width: 2 };
  const options = { shape, fps: 30, placement: "condition", width: 32 } as const;
  const plain = ropeTables(options);
  const extended = ropeTables({ ...options, extraFrames: [16] });
  assert.equal(extended.tokens, plain.tokens + 2);
  assert.deepEqual(extended.cos.subarray(2 * 16), plain.cos);
  const alone = ropeTables({ ...options, shape: { ...shape, frames: 1 }, extraFrames: [0] });
  assert.deepEqual(alone.sin.subarray(0, 32), alone.sin.subarray(32));
});

test("packing is by frames, rows and columns, and unpacking undoes it, for some frames as well", () => {
  const shape = { channels: 2, frames: 3, height: 1, width: 2 };
  const latents = Float32Array.from({ length: 12 }, (_, i) => i);
  const packed = new Float32Array(12);
  packVideo(latents, shape, packed);
  assert.deepEqual([...packed], [0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11]);
  assert.deepEqual(unpackFrames(packed, shape, 0, 3), latents);
  assert.deepEqual([...unpackFrames(packed, shape, 1, 2)], [2, 3, 4, 5, 8, 9, 10, 11]);
  assert.deepEqual(sliceFrames(latents, shape, 1, 2), unpackFrames(packed, shape, 1, 2));
});

test("frames are rounded to the nearest 8k + 1", () => {
  assert.deepEqual([1, 5, 6, 9, 30, 120, 121, 257].map(nearestFrames), [1, 9, 9, 9, 33, 121, 121, 257]);
  assert.deepEqual([1, 9, 257].map(latentFrames), [1, 2, 33]);
});
