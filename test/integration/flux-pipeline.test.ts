import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import sharp from "sharp";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { AppError, type ErrorCode } from "../../src/protocol/error.ts";
import type { JobOutput, RunnerJob } from "../../src/protocol/ipc.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import {
  FLUX_FIXTURES,
  fluxJob,
  largestDifference,
  MODELS,
  openFluxRig,
  openTinyRig,
  pixelsOf,
  present,
  readGoldens,
  readManifest,
  RecordingContext,
  type FluxRig,
} from "../support/flux-rig.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const SCHNELL = "tiny-flux-schnell";
const PARAMS = { prompt: "a red fox", width: 64, height: 64, steps: 3, seed: 42 };
let rig: FluxRig;
let dev: FluxRig;
let dir = "";
before(async () => {
  rig = await openTinyRig(SCHNELL, { embeddingCacheBytes: 1_000_000 });
  dev = await openTinyRig("tiny-flux-dev");
  dir = await mkdtemp(join(tmpdir(), "flux-pipeline-"));
});
after(async () => {
  await rig[Symbol.asyncDispose]();
  await dev[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function run(
  jobs: readonly RunnerJob[],
  options: { readonly rig?: FluxRig; readonly onStage?: (context: RecordingContext, name: string, count: number) => void } = {},
): Promise<RecordingContext> {
  const { pipeline, guard } = options.rig ?? rig;
  const context = new RecordingContext(guard);
  context.onStage = (name, count) => options.onStage?.(context, name, count);
  await pipeline.run(jobs, context, context.end);
  return context;
}

function outputOf(context: RecordingContext, id: string): JobOutput {
  const end = context.ends.get(id);
  assert.ok(end?.ok === true, `${id}: ${String(end?.ok === false ? end.error : "no end")}`);
  return end.output;
}

function failureOf(context: RecordingContext, id: string): AppError {
  const end = context.ends.get(id);
  assert.ok(end?.ok === false && end.error instanceof AppError, `${id} did not fail`);
  return end.error;
}

const picture = (job: RunnerJob): Promise<Buffer> => pixelsOf(join(job.outDir, "image.png"));

const isError =
  (code: ErrorCode, ...texts: RegExp[]) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    for (const text of texts) assert.match(thrown.message, text);
    return true;
  };

test("loading announces every part before it blocks", () => {
  const parts = ["vae_decoder", "vae_encoder", "text_encoder", "text_encoder_2", "transformer"];
  assert.deepEqual(
    rig.stages,
    parts.map((part) => `load:${part}`),
  );
});

test("a job announces its stages, reports each step and shows x0", async () => {
  const job = await fluxJob("stages", { ...PARAMS, prompt: "stages" });
  const context = await run([job]);
  assert.deepEqual(context.stages, ["text", "text", "denoise", "denoise", "denoise", "decode", "encode"]);
  const fractions = context.progressed.map(({ fraction }) => fraction);
  assert.deepEqual(
    fractions,
    fractions.toSorted((a, b) => a - b),
  );
  assert.deepEqual(
    context.progressed.filter(({ stage }) => stage === "denoise").map(({ step, steps }) => [step, steps]),
    [
      [1, 3],
      [2, 3],
      [3, 3],
    ],
  );
  // A step whose predecessor's preview is still being encoded shows none.
  await context.settled();
  const shown = context.previews.map(({ step }) => step);
  assert.equal(shown[0], 1);
  assert.deepEqual(
    shown,
    [1, 2, 3].filter((step) => shown.includes(step)),
  );
  for (const { jpeg } of context.previews) assert.equal((await sharp(jpeg).metadata()).format, "jpeg");
  const { files, seed, info, sessionMs, runMs, encodeMs } = outputOf(context, "stages");
  assert.deepEqual(
    files.map(({ name, role }) => `${role} ${name}`),
    ["main image.png", "alt image.webp", "alt image.jpg"],
  );
  assert.equal(seed, 42);
  assert.deepEqual(info, { width: 64, height: 64, steps: 3, model: SCHNELL, text_cached: false });
  assert.ok(sessionMs > 0 && sessionMs <= runMs && encodeMs > 0);
  assert.deepEqual((await readdir(job.outDir)).toSorted(), ["image.jpg", "image.png", "image.webp"]);
});

test("a repeated prompt skips both text encoders and gives the same picture", async () => {
  const jobs = [await fluxJob("first", { ...PARAMS, prompt: "cached" }), await fluxJob("again", { ...PARAMS, prompt: "cached" })];
  await run([present(jobs[0])]);
  rig.calls.length = 0;
  const context = await run([present(jobs[1])]);
  assert.ok(rig.calls.every(({ path }) => !path.includes("text_encoder")));
  assert.ok(!context.stages.includes("text"));
  assert.equal(outputOf(context, "again").info["text_cached"], true);
  assert.deepEqual(await picture(present(jobs[1])), await picture(present(jobs[0])));
});

test("a member that is cancelled during a step leaves at the next one, and the others' pictures do not change", async () => {
  const make = (): Promise<RunnerJob[]> =>
    Promise.all([1, 2, 3].map((seed) => fluxJob(`member-${seed}`, { ...PARAMS, prompt: `member ${seed}`, seed })));
  const alone = await make();
  for (const job of alone) await run([job]);
  for (const victim of ["member-1", "member-2", "member-3"]) {
    const together = await make();
    rig.calls.length = 0;
    const context = await run(together, {
      onStage: (context, name, count) => {
        if (name === "denoise" && count === 2) context.cancel(victim);
      },
    });
    assert.equal(failureOf(context, victim).code, "CANCELLED");
    const batches = rig.calls.filter(({ path }) => path.includes("/transformer/")).map(({ feeds }) => feeds["hidden_states"]?.dims[0]);
    assert.deepEqual(batches, [3, 3, 2]);
    for (const [row, job] of together.entries()) {
      if (job.id === victim) assert.deepEqual(await readdir(job.outDir), []);
      else assert.ok(largestDifference(await picture(job), await picture(present(alone[row]))) <= 1, `${job.id} beside ${victim}`);
    }
  }
});

test("when all are cancelled the step under way is ended, and nothing more runs", async () => {
  const jobs = [await fluxJob("gone", PARAMS), await fluxJob("gone-too", PARAMS)];
  rig.calls.length = 0;
  const context = await run(jobs, {
    onStage: (context, name, count) => {
      if (name === "denoise" && count === 2) for (const { id } of jobs) context.cancel(id);
    },
  });
  for (const { id } of jobs) assert.equal(failureOf(context, id).code, "CANCELLED");
  assert.deepEqual(context.stages.slice(-2), ["denoise", "denoise"]);
  assert.deepEqual(
    context.progressed.filter(({ stage }) => stage === "denoise").map(({ step }) => step),
    [1, 1],
    "the second step came to no end",
  );
});

test("what runs for a cancelled member alone is ended: its text, its start picture, its decoding; the others do not notice", async () => {
  const image = new URL("init-128.png", FLUX_FIXTURES).pathname;
  const make = (): Promise<RunnerJob[]> =>
    Promise.all([1, 2, 3].map((seed) => fluxJob(`own-${seed}`, { ...PARAMS, prompt: `own ${seed}`, seed, strength: 0.7 }, image)));
  const alone = await make();
  for (const job of alone) await run([job], { rig: dev });
  for (const [stage, nth] of [
    ["text", 3],
    ["encode_input", 2],
    ["decode", 2],
  ] as const) {
    const together = await make();
    const context = await run(together, {
      rig: dev,
      onStage: (context, name, count) => {
        if (name === stage && count === nth) context.cancel("own-2");
      },
    });
    assert.equal(failureOf(context, "own-2").code, "CANCELLED", stage);
    assert.deepEqual(await readdir(present(together[1]).outDir), []);
    for (const row of [0, 2]) {
      const [job, by] = [present(together[row]), present(alone[row])];
      assert.ok(largestDifference(await picture(job), await picture(by)) <= 1, `${job.id} beside a cancel in ${stage}`);
    }
  }
});

test("jobs that cannot share a run go one group after the other", async () => {
  const image = new URL("init-128.png", FLUX_FIXTURES).pathname;
  const jobs = [
    await fluxJob("small", PARAMS),
    await fluxJob("wide", { ...PARAMS, width: 96 }),
    await fluxJob("small-too", { ...PARAMS, seed: 7 }),
    await fluxJob("from-image", { ...PARAMS, strength: 0.5 }, image),
  ];
  rig.calls.length = 0;
  const context = await run(jobs);
  for (const { id } of jobs) outputOf(context, id);
  const batches = rig.calls.filter(({ path }) => path.includes("/transformer/")).map(({ feeds }) => feeds["hidden_states"]?.dims[0]);
  assert.deepEqual(batches, [2, 2, 2, 1, 1, 1, 1, 1]);
});

test("one job's bad input fails that job alone, with the parameter named", async () => {
  await writeFile(join(dir, "broken.png"), "no picture");
  const jobs = [
    await fluxJob("good", PARAMS),
    await fluxJob("no-prompt", { width: 64, height: 64, steps: 1, seed: 1 }),
    await fluxJob("bad-image", { ...PARAMS, strength: 0.5 }, join(dir, "broken.png")),
    await fluxJob("too-many-steps", { ...PARAMS, steps: 11 }),
    { ...(await fluxJob("no-image", PARAMS)), task: "img2img" as const },
  ];
  const context = await run(jobs);
  outputOf(context, "good");
  isError("INVALID_INPUT", /parameter prompt/)(failureOf(context, "no-prompt"));
  isError("IMAGE_UNREADABLE", /broken\.png/)(failureOf(context, "bad-image"));
  isError("INVALID_INPUT", /steps is 11, expected 1 to 10/)(failureOf(context, "too-many-steps"));
  isError("INVALID_INPUT", /needs an input image/)(failureOf(context, "no-image"));
});

test("image-to-image without a size takes the picture's, brought to a multiple of 16", async () => {
  const job = await fluxJob("own-size", { prompt: "a", steps: 2, seed: 1 }, new URL("init-200x150.png", FLUX_FIXTURES).pathname);
  const { info } = outputOf(await run([job]), "own-size");
  assert.deepEqual([info["width"], info["height"]], [192, 144]);
});

test("true classifier-free guidance needs a negative prompt and a scale above 1, and then changes the picture", async () => {
  const jobs = await Promise.all([
    fluxJob("plain", PARAMS),
    fluxJob("scale-only", { ...PARAMS, true_cfg_scale: 3 }),
    fluxJob("both", { ...PARAMS, true_cfg_scale: 3, negative_prompt: "rain" }),
  ]);
  rig.calls.length = 0;
  for (const job of jobs) outputOf(await run([job]), job.id);
  assert.equal(rig.calls.filter(({ path }) => path.includes("/transformer/")).length, 3 + 3 + 6);
  const [plain, scaleOnly, both] = await Promise.all(jobs.map(picture));
  assert.deepEqual(scaleOnly, plain);
  assert.ok(largestDifference(present(both), present(plain)) > 0);
});

test("a true-CFG step is what its formula says", async () => {
  const params = { ...PARAMS, steps: 1, prompt: "pos", negative_prompt: "neg", true_cfg_scale: 2 };
  const finals: Float32Array[] = [];
  for (const [id, changed] of [
    ["pos", { true_cfg_scale: 1 }],
    ["neg", { true_cfg_scale: 1, prompt: "neg" }],
    ["cfg", {}],
  ] as const) {
    rig.calls.length = 0;
    outputOf(await run([await fluxJob(id, { ...params, ...changed })]), id);
    finals.push(rig.calls.find(({ path }) => path.includes("/vae_decoder/"))?.feeds["latent_sample"]?.data as Float32Array);
  }
  const [pos, neg, cfg] = finals;
  // One step is linear in the velocity, so the same combination holds for its results.
  const expected = present(cfg).map((_, i) => present(neg?.[i]) + 2 * (present(pos?.[i]) - present(neg?.[i])));
  assert.ok(largestDifference(present(cfg), expected) < 1e-3);
});

test("guidance reaches the graph that has it, once per row", async () => {
  const jobs = await Promise.all([1, 2].map((seed) => fluxJob(`g${seed}`, { ...PARAMS, seed, guidance: 5 })));
  dev.calls.length = 0;
  await run(jobs, { rig: dev });
  const call = dev.calls.find(({ path }) => path.includes("/transformer/"));
  assert.deepEqual(call?.feeds["guidance"]?.data, Float32Array.of(5, 5));
  assert.deepEqual(call?.feeds["timestep"]?.data, Float32Array.of(1, 1));
});

test("probing decodes something real", async () => {
  rig.calls.length = 0;
  await rig.pipeline.probe();
  assert.equal(rig.calls.length, 1);
});

function spoilNaN(part: string): (path: string, results: Record<string, Tensor>) => void {
  return (path, results) => {
    if (!path.includes(`/${part}/`)) return;
    for (const tensor of Object.values(results)) if (tensor.type === "float32") tensor.data[5] = Number.NaN;
  };
}

for (const part of ["transformer", "vae_decoder"]) {
  test(`values that are not finite from the ${part} are BAD_OUTPUT, blamed on it and on float16`, async () => {
    await using spoiled = await openTinyRig(SCHNELL, { spoil: spoilNaN(part) });
    const context = await run([await fluxJob("nan", PARAMS)], { rig: spoiled });
    isError("BAD_OUTPUT", new RegExp(`part ${part}`), /float16/)(failureOf(context, "nan"));
  });
}

test("running out of memory concerns the batch; what was decoded before ends well", async () => {
  let decodes = 0;
  await using poor = await openTinyRig(SCHNELL, {
    spoil: (path) => {
      if (path.includes("/vae_decoder/") && ++decodes === 2) throw new AppError("OUT_OF_MEMORY", "the device is full");
    },
  });
  const context = new RecordingContext();
  const jobs = await Promise.all([1, 2].map((seed) => fluxJob(`m${seed}`, { ...PARAMS, seed })));
  await assert.rejects(poor.pipeline.run(jobs, context, context.end), isError("OUT_OF_MEMORY"));
  outputOf(context, "m1");
  assert.equal(context.ends.has("m2"), false);
});

test("a failed run that is no fault of the device ends the jobs that shared it, and the next group runs", async () => {
  await using flawed = await openTinyRig(SCHNELL, {
    spoil: (path, results) => {
      if (path.includes("/transformer/") && results["out_hidden_states"]?.dims[0] === 2) throw new AppError("PIPELINE_FAILED", "no kernel");
    },
  });
  const jobs = [await fluxJob("a", PARAMS), await fluxJob("b", PARAMS), await fluxJob("c", { ...PARAMS, width: 80 })];
  const context = await run(jobs, { rig: flawed });
  isError("PIPELINE_FAILED", /no kernel/)(failureOf(context, "a"));
  isError("PIPELINE_FAILED")(failureOf(context, "b"));
  outputOf(context, "c");
});

const BFL_DIR = new URL("tiny-flux-bfl", FLUX_FIXTURES).pathname;

/** The manifest that an operator would write for an export in the layout of black-forest-labs' ONNX repositories. */
async function bflManifest(): Promise<Manifest> {
  const { parts: _, files: __, ...tiny } = await readManifest(SCHNELL);
  return parseManifest(
    {
      ...tiny,
      slug: "tiny-flux-bfl",
      tasks: ["txt2img"],
      files: {},
      parts: {
        text_encoder: { file: "clip.opt/model.onnx", outputs: { pooler_output: "pooled_embeddings" } },
        text_encoder_2: { file: "t5.opt/model.onnx", outputs: { last_hidden_state: "text_embeddings" } },
        transformer: {
          file: "transformer.opt/fp16/model.onnx",
          externalData: [{ file: "transformer.opt/fp16/backbone.onnx_data" }],
          outputs: { out_hidden_states: "latent" },
        },
        vae_decoder: { file: "vae.opt/model.onnx", inputs: { latent_sample: "latent" }, outputs: { sample: "images" } },
      },
    },
    "bfl",
  );
}

test("another layout runs by its manifest: other names, float16 edges, int32 tokens, float ids per row", async () => {
  await using bfl = await openFluxRig({ manifest: await bflManifest(), modelDir: BFL_DIR });
  const goldens = (await readGoldens()).filter(({ name }) => ["schnell-128x128-4", "schnell-192x128-6", "schnell-batch"].includes(name));
  assert.equal(goldens.length, 3);
  for (const golden of goldens) {
    const { width, height, steps } = golden.case;
    const seeds = [golden.case.seed].flat();
    const jobs = await Promise.all(
      [golden.case.prompt].flat().map((prompt, row) => fluxJob(`bfl-${row}`, { prompt, width, height, steps, seed: seeds[row] ?? 0 })),
    );
    const context = await run(jobs, { rig: bfl });
    for (const [row, job] of jobs.entries()) {
      outputOf(context, job.id);
      // float16 at the edges rounds latents to about 1e-3 in every step.
      assert.ok(largestDifference(await picture(job), present(golden.pictures[row])) <= 3, golden.name);
    }
  }
  const call = bfl.calls.findLast(({ path }) => path.includes("transformer.opt"));
  assert.deepEqual(
    [call?.feeds["hidden_states"]?.type, call?.feeds["img_ids"]?.type, call?.feeds["img_ids"]?.dims[0]],
    ["float16", "float32", 2],
  );
});

test("a model without image-to-image says so", async () => {
  await using bfl = await openFluxRig({ manifest: await bflManifest(), modelDir: BFL_DIR });
  const job = await fluxJob("i2i", { ...PARAMS, strength: 0.5 }, new URL("init-128.png", FLUX_FIXTURES).pathname);
  isError("INVALID_INPUT", /tiny-flux-bfl has no image-to-image/)(failureOf(await run([job], { rig: bfl }), "i2i"));
});

test("names that no graph has are refused with part, role and what there is", async () => {
  const manifest = await bflManifest();
  const open = (parts: Manifest["parts"]): Promise<FluxRig> => openFluxRig({ manifest: { ...manifest, parts }, modelDir: BFL_DIR });
  const { transformer, vae_decoder: decoder, ...rest } = manifest.parts;
  const plainNames = { ...present(decoder), inputs: {} };
  await assert.rejects(
    open({ ...rest, transformer: present(transformer), vae_decoder: plainNames }),
    isError("MODEL_UNSUPPORTED", /part vae_decoder/, /no input latent_sample/, /it has latent float32/, /parts\.vae_decoder\.inputs/),
  );
  const wrongName = { ...present(transformer), inputs: { hidden_states: "x" } };
  await assert.rejects(
    open({ ...rest, vae_decoder: present(decoder), transformer: wrongName }),
    isError("MODEL_UNSUPPORTED", /part transformer/, /no input x \(for hidden_states, as the manifest says\)/),
  );
});

test("a folder in the Optimum layout runs with a manifest that names no files", async () => {
  const { parts: _, files: __, ...tiny } = await readManifest(SCHNELL);
  const manifest = parseManifest({ ...tiny, slug: "bare", parts: {}, files: {} }, "bare");
  await using bare = await openFluxRig({ manifest, modelDir: new URL(SCHNELL, MODELS).pathname });
  outputOf(await run([await fluxJob("bare", PARAMS)], { rig: bare }), "bare");
});

test("missing and foreign files of a folder are named", async () => {
  const manifest = await readManifest(SCHNELL);
  const modelDir = join(dir, "copy");
  await cp(new URL(SCHNELL, MODELS).pathname, modelDir, { recursive: true });
  const open = (changed: Partial<Manifest> = {}): Promise<FluxRig> => openFluxRig({ manifest: { ...manifest, ...changed }, modelDir });
  await assert.rejects(open({ options: { t5_lenght: 1 } }), isError("MANIFEST_INVALID", /tiny-flux-schnell/, /t5_lenght/));
  await assert.rejects(
    open({ parts: { unet: { file: "x", externalData: [], inputs: {}, outputs: {} } } }),
    isError("MANIFEST_INVALID", /part unet is unknown/),
  );
  await cp(join(modelDir, "text_encoder/model.onnx"), join(modelDir, "transformer/model.onnx"));
  await assert.rejects(open(), isError("MODEL_UNSUPPORTED", /part transformer/, /no input hidden_states/));
  await rm(join(modelDir, "vae_encoder/model.onnx"));
  await assert.rejects(open(), isError("MODEL_CORRUPT", /vae_encoder\/model\.onnx/));
  await writeFile(join(modelDir, "scheduler/scheduler_config.json"), '{"_class_name": "DDIMScheduler"}');
  await assert.rejects(open(), isError("MODEL_UNSUPPORTED", /scheduler_config\.json/, /DDIMScheduler/));
  await rm(join(modelDir, "scheduler/scheduler_config.json"));
  await assert.rejects(open(), isError("MODEL_CORRUPT", /scheduler_config\.json does not exist/));
});
