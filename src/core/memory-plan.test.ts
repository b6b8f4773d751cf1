import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import { describeNeeds, largestStage, memoryNeeds, partsToPark, stageBytes, type MemoryNeeds } from "./memory-plan.ts";

const GIB = 1024 ** 3;

function flux(changes: Partial<Record<keyof Manifest, unknown>> = {}): Manifest {
  return parseManifest(
    {
      version: 1,
      slug: "some",
      name: "Some",
      family: "flux",
      tasks: ["txt2img"],
      license: { id: "x", commercial: true },
      source: { repository: "x" },
      memoryBytes: { cuda: 20 * GIB },
      ...changes,
    },
    "test",
  );
}

const FILES: Readonly<Record<string, number>> = {
  text_encoder: GIB,
  text_encoder_2: 5 * GIB,
  transformer: 11 * GIB,
  vae_decoder: GIB,
  vae_encoder: GIB,
};
const sizeOf = (part: string): number | null => FILES[part] ?? null;

test("parts count by their files, and runs by what is left of the stated peak", () => {
  const needs = memoryNeeds(flux(), "cuda", sizeOf);
  assert.ok(needs !== null);
  assert.deepEqual(needs.partBytes, { text_encoder: GIB, text_encoder_2: 5 * GIB, transformer: 11 * GIB, vae_decoder: GIB });
  assert.deepEqual(
    needs.stages.map(({ stage, activationBytes }) => [stage, activationBytes / GIB]),
    [
      ["text", 2],
      ["denoise", 2],
      ["decode", 2],
    ],
  );
  assert.deepEqual([largestStage(needs).stage.stage, largestStage(needs).bytes / GIB], ["denoise", 13]);
  assert.match(
    describeNeeds(needs),
    /text 8\.00 GiB \(text_encoder 1\.00 GiB, text_encoder_2 5\.00 GiB, runs 2\.00 GiB\); denoise 13\.00 GiB/,
  );
});

test("what a manifest states of a part and of a stage stands before what is estimated", () => {
  const part = { file: "transformer.onnx", memoryBytes: { cuda: 12 * GIB } };
  const needs = memoryNeeds(flux({ parts: { transformer: part }, activationBytes: { denoise: { cuda: GIB } } }), "cuda", sizeOf);
  assert.ok(needs !== null);
  assert.equal(needs.partBytes["transformer"], 12 * GIB);
  assert.deepEqual(
    needs.stages.map(({ activationBytes }) => activationBytes / GIB),
    [1, 1, 1],
    "the stated one, and 20 less 19 for the others",
  );
});

test("there are no stages for a family without them, another kind of device, or a part of unknown size", () => {
  assert.equal(memoryNeeds(flux({ family: "whisper", tasks: ["vid2txt"] }), "cuda", sizeOf), null);
  assert.equal(memoryNeeds(flux(), "cpu", sizeOf), null);
  assert.equal(
    memoryNeeds(flux(), "cuda", (part) => (part === "transformer" ? null : GIB)),
    null,
  );
});

test("an encoder of pictures counts where a task takes one", () => {
  const needs = memoryNeeds(flux({ tasks: ["txt2img", "img2img"] }), "cuda", sizeOf);
  assert.deepEqual(
    needs?.stages.map(({ stage }) => stage),
    ["text", "encode_input", "denoise", "decode"],
  );
});

test("what is needed last is parked first, and no more than need be", () => {
  const needs = memoryNeeds(flux(), "cuda", sizeOf);
  assert.ok(needs !== null);
  const park = (stage: string, awake: readonly string[], gib: number): readonly string[] =>
    partsToPark({ needs, stage, awake: new Set(awake), budgetBytes: gib * GIB });
  assert.deepEqual(park("denoise", ["text_encoder", "text_encoder_2", "vae_decoder"], 20), []);
  assert.deepEqual(park("denoise", ["text_encoder", "text_encoder_2", "vae_decoder"], 19), ["text_encoder"]);
  assert.deepEqual(park("denoise", ["text_encoder", "text_encoder_2", "vae_decoder"], 14), ["text_encoder", "text_encoder_2"]);
  assert.deepEqual(park("text", ["transformer", "vae_decoder"], 14), ["vae_decoder", "transformer"]);
  assert.deepEqual(park("decode", ["transformer", "vae_decoder"], 14), []);
});

test("whatever the sizes: a job passes all stages within any budget that the largest one fits into", () => {
  const size = fc.integer({ min: 0, max: 50 });
  const needsArb = fc
    .array(fc.tuple(fc.array(size, { minLength: 1, maxLength: 3 }), size), { minLength: 1, maxLength: 5 })
    .map((stages): MemoryNeeds => {
      const named = stages.map(([parts], at) => parts.map((bytes, index) => [`${at}.${index}`, bytes] as const));
      return {
        partBytes: Object.fromEntries(named.flat()),
        stages: stages.map(([, activationBytes], at) => ({
          stage: `s${at}`,
          parts: named[at]?.map(([part]) => part) ?? [],
          activationBytes,
        })),
      };
    });
  fc.assert(
    fc.property(needsArb, size, (needs, spare) => {
      const budgetBytes = largestStage(needs).bytes + spare;
      const awake = new Set<string>();
      for (const stage of [...needs.stages, ...needs.stages]) {
        for (const part of partsToPark({ needs, stage: stage.stage, awake, budgetBytes })) {
          assert.ok(!stage.parts.includes(part), "a part of the stage itself");
          awake.delete(part);
        }
        for (const part of stage.parts) awake.add(part);
        const taken = [...awake].reduce((sum, part) => sum + (needs.partBytes[part] ?? NaN), stage.activationBytes);
        assert.ok(taken <= budgetBytes && taken >= stageBytes(needs, stage));
      }
      const all = Object.values(needs.partBytes).reduce((sum, bytes) => sum + bytes, 0);
      const runs = Math.max(...needs.stages.map(({ activationBytes }) => activationBytes));
      if (all + runs <= budgetBytes) assert.equal(awake.size, Object.keys(needs.partBytes).length);
    }),
  );
});
