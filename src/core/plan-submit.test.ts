import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { planSubmit, requiredFields, type SubmitInput, type SubmitPlan } from "./plan-submit.ts";

function manifest(more: Partial<Manifest> = {}): Manifest {
  const base = {
    version: 1,
    slug: "Flux1dev",
    name: "Flux.1 dev",
    family: "flux",
    tasks: ["txt2img", "img2img"],
    license: { id: "x", commercial: false },
    source: { repository: "x/y" },
    limits: {
      min_width: 256,
      max_width: 2048,
      min_height: 256,
      max_height: 2048,
      resolution_step: 16,
      min_steps: 1,
      max_steps: 50,
      min_guidance: 1,
      max_guidance: 10,
    },
    defaults: { width: 768, height: 768, steps: 28, guidance: 3.5 },
    memoryBytes: { cuda: 1 },
  };
  return parseManifest({ ...base, ...more }, "test");
}

/** What the model of the rule's test makes of them. */
const PLAIN = { prompt: "a cat", width: 512, height: 512, steps: 4, seed: 1234 };
const FIELDS = { prompt: "a cat", width: 512, height: 512 };
const RANDOM = 1234;
const plan = (fields: Record<string, unknown>, more: Partial<SubmitInput> = {}): SubmitPlan =>
  planSubmit({ manifest: manifest(), task: "txt2img", randomSeed: RANDOM, fields, ...more });

function params(fields: Record<string, unknown>, more: Partial<SubmitInput> = {}): Readonly<Record<string, unknown>> {
  const planned = plan(fields, more);
  assert.ok(planned.ok, JSON.stringify(planned));
  return planned.params;
}

function errors(fields: Record<string, unknown>, more: Partial<SubmitInput> = {}): Readonly<Record<string, readonly string[]>> {
  const planned = plan(fields, more);
  assert.ok(!planned.ok, JSON.stringify(planned));
  return planned.errors;
}

test("a txt2img request gets the model's defaults and a concrete seed", () => {
  assert.deepEqual(params(FIELDS), { prompt: "a cat", width: 512, height: 512, guidance: 3.5, steps: 28, seed: RANDOM });
});

test("a form's texts are read as the values they mean, and empty ones are absent", () => {
  const form = { prompt: "a cat", width: "512", height: "512", steps: "4", guidance: "2.5", seed: "", negative_prompt: "", loras: "" };
  assert.deepEqual(params(form), { prompt: "a cat", width: 512, height: 512, guidance: 2.5, steps: 4, seed: RANDOM });
});

test("what the model has no default for is required, and every wrong field is named at once", () => {
  assert.deepEqual(requiredFields(manifest(), "txt2img"), ["prompt"]);
  assert.deepEqual(requiredFields(manifest(), "img2img"), ["prompt", "image"]);
  const bare = manifest({ defaults: {} });
  assert.deepEqual(requiredFields(bare, "txt2img"), ["prompt", "width", "height"]);
  assert.deepEqual(errors({ steps: 51, guidance: "x", prompt: "  " }, { manifest: bare }), {
    prompt: ["The prompt field is required."],
    width: ["The width field is required."],
    height: ["The height field is required."],
    guidance: ["The guidance field must be a number."],
    steps: ["The steps field must not be greater than 50."],
  });
});

test("sizes are rounded down to the model's step after their limits were checked, but not below the minimum", () => {
  const sized = (width: number, limits = {}): unknown =>
    params({ ...FIELDS, width }, { manifest: manifest({ limits: { ...manifest().limits, ...limits } }) })["width"];
  assert.deepEqual([sized(271), sized(272), sized(2048), sized(260, { resolution_step: 100 })], [256, 272, 2048, 300]);
  assert.deepEqual(errors({ ...FIELDS, width: 2049, height: 255 }), {
    width: ["The width field must not be greater than 2048."],
    height: ["The height field must be at least 256."],
  });
});

test("a seed is resolved: -1 and absent are random, wider ones count modulo 2^32", () => {
  const seed = (value: unknown): unknown => params({ ...FIELDS, seed: value })["seed"];
  assert.deepEqual([seed(-1), seed("-1"), seed(null), seed(7), seed(2 ** 32 + 7)], [RANDOM, RANDOM, RANDOM, 7, 7]);
  assert.deepEqual(Object.keys(errors({ ...FIELDS, seed: 2 ** 53 })), ["seed"]);
  assert.deepEqual(Object.keys(errors({ ...FIELDS, seed: -2 })), ["seed"]);
});

test("what the model does not have is refused, unless it asks for nothing or is a dial within the contract's range", () => {
  const schnell = manifest({ features: { supports_guidance: false }, defaults: { width: 512, height: 512, steps: 4, guidance: 3.5 } });
  const sent = (more: Record<string, unknown>): SubmitPlan => plan({ ...FIELDS, ...more }, { manifest: schnell });
  for (const guidance of [0, 1, "0", "1.0", "", null]) assert.deepEqual(sent({ guidance }), { ok: true, params: PLAIN, ignored: [] });
  for (const guidance of [3.5, 7.5, "20"]) assert.deepEqual(sent({ guidance }), { ok: true, params: PLAIN, ignored: ["guidance"] });
  assert.deepEqual(sent({ guidance_scale: 7.5 }), { ok: true, params: PLAIN, ignored: ["guidance_scale"] });
  const refused = (more: Record<string, unknown>): unknown => errors({ ...FIELDS, ...more }, { manifest: schnell });
  assert.deepEqual(refused({ guidance: 99 }), { guidance: ["The guidance field must not be greater than 20."] });
  assert.deepEqual(refused({ guidance: "much" }), { guidance: ["The guidance field must be a number."] });
  assert.deepEqual(refused({ negative_prompt: "dog" }), {
    negative_prompt: ["The negative_prompt field is not an option of the model Flux1dev: leave it out."],
  });
  assert.match(JSON.stringify(refused({ bpm: 120 })), /is not known to txt2img with the model Flux1dev, which takes model, prompt, width/);
  assert.deepEqual(Object.keys(refused({ true_cfg_scale: 4, strength: 0.5, return_result_in_response: true }) as object).toSorted(), [
    "return_result_in_response",
    "strength",
    "true_cfg_scale",
  ]);
  // As the public clients spell what they do not want.
  const nothing = { return_result_in_response: "false", negative_prompt: "", loras: "[]", last_frame_image: "", true_cfg_scale: 1 };
  assert.deepEqual(sent(nothing), { ok: true, params: PLAIN, ignored: [] });
});

test("the public clients' other name of guidance is used where the model has it", () => {
  assert.equal(params({ ...FIELDS, guidance_scale: "7.5" })["guidance"], 7.5);
  assert.deepEqual(errors({ ...FIELDS, guidance_scale: 11 }), {
    guidance_scale: ["The guidance_scale field must not be greater than 10."],
  });
});

test("a negative prompt and its scale need each other: alone they are named as unused", () => {
  const negative = manifest({
    features: { supports_negative_prompt: true, supports_true_cfg: true },
    defaults: { ...manifest().defaults, true_cfg_scale: 4 },
  });
  const sent = (more: Record<string, unknown>): unknown => {
    const planned = plan({ ...FIELDS, ...more }, { manifest: negative });
    assert.ok(planned.ok, JSON.stringify(planned));
    return [planned.params["negative_prompt"], planned.params["true_cfg_scale"], planned.ignored];
  };
  assert.deepEqual(sent({ negative_prompt: "dog" }), ["dog", 4, []]);
  assert.deepEqual(sent({ negative_prompt: "dog", true_cfg_scale: 1 }), ["dog", 1, ["negative_prompt"]]);
  assert.deepEqual(sent({ true_cfg_scale: 3 }), [undefined, undefined, ["true_cfg_scale"]]);
  assert.deepEqual(sent({}), [undefined, undefined, []]);
});

test("LoRAs that the model does not have are refused, an empty list is not", () => {
  assert.deepEqual(errors({ ...FIELDS, loras: [{ name: "x", weight: 1 }] }), {
    loras: ["The loras field must be empty: the model Flux1dev has no LoRAs."],
  });
  for (const loras of [[], "[]", null]) assert.equal(plan({ ...FIELDS, loras }).ok, true);
});

test("a task that the model does not serve is an error of the model", () => {
  const only = manifest({ tasks: ["img2img", "txt2music"] });
  for (const task of ["txt2img", "aud2txt", "img-rmbg"] satisfies Task[]) {
    assert.deepEqual(errors(FIELDS, { manifest: only, task }), { model: [`The model Flux1dev does not support ${task}.`] });
  }
});

test("img2img needs an image, has a strength, and takes an absent size from the image", () => {
  const img2img = { task: "img2img" as const };
  assert.deepEqual(errors({ prompt: "a cat" }, img2img), { image: ["The image field is required."] });
  assert.deepEqual(errors({ prompt: "a cat" }, { ...img2img, files: [{ name: "image" }, { name: "images[0]" }] }), {
    images: ["The images field must not have more than 1 items."],
  });
  const planned = (fields: Record<string, unknown>, image: { width?: number; height?: number }): unknown[] => {
    const { width, height, strength } = params({ prompt: "a cat", ...fields }, { ...img2img, files: [{ name: "image", ...image }] });
    return [width, height, strength];
  };
  assert.deepEqual(planned({}, {}), [undefined, undefined, 0.6]);
  assert.deepEqual(planned({ strength: "0.8" }, { width: 1000, height: 700 }), [992, 688, 0.8]);
  assert.deepEqual(planned({}, { width: 4096, height: 2048 }), [2048, 1024, 0.6]);
  assert.deepEqual(planned({}, { width: 100, height: 200 }), [256, 512, 0.6]);
  assert.deepEqual(planned({ width: 512 }, { width: 1024, height: 768 }), [512, 384, 0.6]);
  assert.deepEqual(planned({ width: 512, height: 512 }, { width: 1024, height: 768 }), [512, 512, 0.6]);
  assert.deepEqual(Object.keys(errors({ prompt: "a cat", strength: 0 }, { ...img2img, files: [{ name: "image" }] })), ["strength"]);
});

test("further parameters are kept only if the manifest declares them, and typed ones are validated", () => {
  const options = {
    params: ["style", { name: "tiled", type: "boolean", default: false }, { name: "delay_ms", type: "integer", min: 0, max: 100 }],
  };
  const declared = manifest({ options });
  const kept = params({ ...FIELDS, style: { a: [1] }, tiled: "1", delay_ms: "5", webhook_url: "https://x" }, { manifest: declared });
  assert.deepEqual(Object.keys(errors({ ...FIELDS, other: 1 }, { manifest: declared })), ["other"]);
  assert.deepEqual([kept["style"], kept["tiled"], kept["delay_ms"]], [{ a: [1] }, true, 5]);
  assert.deepEqual(Object.keys(kept).toSorted(), ["delay_ms", "guidance", "height", "prompt", "seed", "steps", "style", "tiled", "width"]);
  assert.equal(params(FIELDS, { manifest: declared })["tiled"], false);
  assert.deepEqual(errors({ ...FIELDS, tiled: "maybe", delay_ms: 101 }, { manifest: declared }), {
    tiled: ["The tiled field must be true or false."],
    delay_ms: ["The delay_ms field must not be greater than 100."],
  });
});

test("a model that passes parameters gets every JSON value, but nothing of the envelope", () => {
  const passing = manifest({ options: { passParams: true } });
  const sent = { ...FIELDS, model: "Flux1dev", webhook_url: "https://x", webhook_secret: "s", fault: "hang", nested: { a: 1 }, empty: "" };
  const kept = params(sent, { manifest: passing });
  assert.deepEqual([kept["fault"], kept["nested"]], ["hang", { a: 1 }]);
  for (const name of ["model", "webhook_url", "webhook_secret", "empty"]) assert.equal(Object.hasOwn(kept, name), false);
  assert.deepEqual(errors({ ...FIELDS, fault: () => 1 }, { manifest: passing }), { fault: ["The fault field must be a JSON value."] });
});

test("a manifest with wrong extra parameters says which one", () => {
  const cases: readonly [unknown, RegExp][] = [
    ["x", /options\.params is "x", expected a list/],
    [[5], /options\.params\[0\] is 5, expected a name/],
    [[{ type: "text" }], /options\.params\[0\]\.name is undefined/],
    [[{ name: "a", type: "date" }], /options\.params\[0\]\.type is "date", expected one of text/],
    [[{ name: "a", type: "text", max: "9" }], /options\.params\[0\]\.max is "9", expected a number/],
    [[{ name: "a", type: "text", default: [] }], /options\.params\[0\]\.default is \[\]/],
  ];
  for (const [wrong, message] of cases) {
    assert.throws(
      () => plan(FIELDS, { manifest: manifest({ options: { params: wrong } }) }),
      (error) => error instanceof AppError && error.code === "MANIFEST_INVALID" && message.test(error.message),
    );
  }
});
