import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { JobParams } from "../../protocol/job.ts";
import { parseManifest, type Manifest } from "../../protocol/manifest.ts";
import type { RgbImage } from "../media/rgb-image.ts";
import { groupKey, parsePictureJob, type PictureJob } from "./picture-job.ts";

const manifest: Manifest = parseManifest(
  {
    version: 1,
    slug: "flux",
    name: "Flux",
    family: "flux",
    tasks: ["txt2img", "img2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "here" },
    limits: {
      min_width: 256,
      max_width: 1024,
      min_height: 256,
      max_height: 1024,
      min_steps: 1,
      max_steps: 10,
      min_guidance: 1,
      max_guidance: 10,
    },
    defaults: { width: 768, height: 512, steps: 4, guidance: 2 },
    memoryBytes: { cpu: 1 },
  },
  "test",
);
const REQUIRED = { prompt: "a", seed: 1 };

function parse(
  params: JobParams,
  options: { readonly image?: readonly [number, number]; readonly hasGuidance?: boolean } = {},
): PictureJob {
  const image: RgbImage | null =
    options.image === undefined ? null : { width: options.image[0], height: options.image[1], data: new Uint8Array(0) };
  const job: RunnerJob = { id: "job-0001", task: image === null ? "txt2img" : "img2img", params, inputs: [], outDir: "/nowhere" };
  return parsePictureJob({ job, manifest, hasGuidance: options.hasGuidance ?? true, sizeStep: 16, image });
}

function refused(params: JobParams, text: RegExp, image?: readonly [number, number]): void {
  assert.throws(
    () => parse({ ...REQUIRED, ...params }, image === undefined ? {} : { image }),
    (thrown) => thrown instanceof AppError && thrown.code === "INVALID_INPUT" && text.test(thrown.message),
  );
}

test("the manifest's defaults fill in what is absent or null", () => {
  const { width, height, steps, guidance, start, strength, trueCfgScale } = parse({ ...REQUIRED, steps: null });
  assert.deepEqual([width, height, steps, guidance, start, strength, trueCfgScale], [768, 512, 4, 2, 0, null, 1]);
});

test("a model without guidance ignores it", () => {
  assert.equal(parse({ ...REQUIRED, guidance: 99 }, { hasGuidance: false }).guidance, null);
});

test("sizes are brought down to a multiple of 16", () => {
  const { width, height } = parse({ ...REQUIRED, width: 527, height: 512 });
  assert.deepEqual([width, height], [512, 512]);
});

test("what is outside the model's limits is refused with the limits", () => {
  refused({ width: 255 }, /width is 255, expected 256 to 1024/);
  refused({ height: 1025 }, /height is 1025/);
  refused({ steps: 11 }, /steps is 11, expected 1 to 10/);
  refused({ steps: 2.5 }, /steps is 2.5, expected an integer/);
  refused({ guidance: 0.5 }, /guidance is 0.5, expected 1 to 10/);
  refused({ steps: "four" }, /parameter steps/);
});

test("prompt and seed must be there; a seed goes up to 2^53-1", () => {
  refused({ prompt: null }, /parameter prompt/);
  refused({ seed: -1 }, /seed is -1/);
  refused({ seed: 1.5 }, /seed is 1.5/);
  refused({ seed: null }, /parameter seed/);
  assert.equal(parse({ ...REQUIRED, seed: Number.MAX_SAFE_INTEGER }).seed, Number.MAX_SAFE_INTEGER);
  assert.equal(parse({ ...REQUIRED, prompt: "" }).prompt, "");
});

test("strength says where image-to-image starts", () => {
  const at = (strength: number | null): number => parse({ ...REQUIRED, strength }, { image: [512, 512] }).start;
  assert.deepEqual([at(1), at(0.6), at(0.25), at(null)], [0, 1, 3, 1]);
  refused({ strength: 0 }, /strength is 0, expected at least 0.25/, [512, 512]);
  refused({ strength: 1.1 }, /strength is 1.1/, [512, 512]);
});

test("image-to-image takes the picture's size, within the limits and with its proportions", () => {
  const sized = (width: number, height: number): readonly number[] => {
    const job = parse(REQUIRED, { image: [width, height] });
    return [job.width, job.height];
  };
  assert.deepEqual(sized(500, 400), [496, 400]);
  assert.deepEqual(sized(4000, 2000), [1024, 512]);
  assert.deepEqual(sized(2000, 4000), [512, 1024]);
  assert.deepEqual(sized(128, 192), [256, 384]);
  assert.deepEqual(sized(5000, 100), [1024, 256], "proportions that the limits do not allow give way");
});

test("one given side sets the scale of the picture for the other", () => {
  const { width, height } = parse({ ...REQUIRED, width: 640 }, { image: [1000, 700] });
  assert.deepEqual([width, height], [640, 448]);
});

test("jobs share a run when size, steps, start, guidance and true-CFG scale agree", () => {
  const key = (params: JobParams): string => groupKey(parse({ ...REQUIRED, ...params }));
  assert.equal(key({ seed: 2, prompt: "b" }), key({}));
  for (const other of [{ width: 512 }, { height: 256 }, { steps: 5 }, { guidance: 3 }, { true_cfg_scale: 2, negative_prompt: "x" }]) {
    assert.notEqual(key(other), key({}), JSON.stringify(other));
  }
  assert.equal(key({ true_cfg_scale: 2 }), key({}), "a scale without a negative prompt does nothing");
});
