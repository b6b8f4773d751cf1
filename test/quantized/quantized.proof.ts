/**
 * `scripts/verify quantize`: scripts/export/quantize.py makes the tiny models of Flux, LTX-Video and Whisper anew with weights of 4 and 8 bits, this
 * product's pipelines run them, and what comes out is compared with the float models. Then onnxruntime's own CUDA provider is asked where it
 * would put the nodes. Random weights are the worst case: nothing in them is redundant.
 *
 * QUANTIZE_PYTHON is a Python with scripts/export's packages; QUANTIZE_CUDA the folder that scripts/cuda-without-gpu.sh fills.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { checkModelFile, modelFiles } from "../../src/models/model-files.ts";
import { FeatureReader } from "../../src/pipelines/whisper/feature-reader.ts";
import { surveyAudio } from "../../src/pipelines/whisper/survey-audio.ts";
import { transcribe } from "../../src/pipelines/whisper/transcribe.ts";
import { openWhisperModel } from "../../src/pipelines/whisper/whisper-model.ts";
import type { Operators } from "../../src/protocol/ipc.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import { fluxJob, MODELS, openFluxRig, pixelsOf, present, RecordingContext, recordingBackend, type Call } from "../support/flux-rig.ts";
import { ltxJob, openLtxRig } from "../support/ltx-rig.ts";
import { babble, inPieces } from "../support/whisper-audio.ts";
import { readWhisperGoldens, whisperContext } from "../support/whisper-rig.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const SEEDS = [0, 1, 2, 3] as const;
const TINY = ["tiny-flux-schnell", "tiny-ltx-video", "tiny-whisper"] as const;
type Slug = (typeof TINY)[number];

interface Variant {
  readonly name: string;
  readonly args: readonly string[];
  /** PSNR in dB, between the pictures of one seed, and between the frames of one clip */
  readonly picture: number;
  readonly clip: number;
  /** cosine between the decoder's logits, as long as both models were given the same tokens */
  readonly logits: number;
}

const VARIANTS: readonly Variant[] = [
  { name: "int4", args: ["--bits", "4"], picture: 30, clip: 28, logits: 0.9 },
  { name: "int4-zeros", args: ["--bits", "4", "--zero-points"], picture: 30, clip: 28, logits: 0.9 },
  { name: "int8", args: ["--bits", "8"], picture: 49, clip: 48, logits: 0.999 },
  // Activations in 8 bits as well, block by block: how a CPU multiplies fast.
  { name: "int8-cpu", args: ["--bits", "8", "--target", "cpu"], picture: 48, clip: 46, logits: 0.998 },
];

function fromEnv(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set: run scripts/verify quantize`);
  return value;
}

const python = fromEnv("QUANTIZE_PYTHON");
const cuda = fromEnv("QUANTIZE_CUDA");
let dir = "";
const folderOf = (slug: Slug, variant?: Variant): string =>
  variant === undefined ? new URL(slug, MODELS).pathname : join(dir, `${slug}-${variant.name}`);

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "quantized-"));
  for (const slug of TINY) {
    for (const variant of VARIANTS) {
      const paths = ["-i", folderOf(slug), "-o", folderOf(slug, variant), "--min-elements", "512"];
      await exec(python, [join(ROOT, "scripts/export/quantize.py"), ...paths, ...variant.args]);
    }
  }
});
after(() => rm(dir, { recursive: true, force: true }));

function say(line: string): void {
  process.stdout.write(`quantize: ${line}\n`);
}

async function manifestOf(folder: string): Promise<Manifest> {
  const path = join(folder, "model.json");
  return parseManifest(JSON.parse(await readFile(path, "utf8")), path);
}

/** dB of 8-bit values. @throws where the sizes differ */
function psnr(some: Uint8Array, others: Uint8Array): number {
  assert.equal(some.length, others.length);
  const squares = some.reduce((sum, value, i) => sum + (value - (others[i] ?? NaN)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / some.length));
}

async function pictures(folder: string): Promise<readonly Buffer[]> {
  await using rig = await openFluxRig({ manifest: await manifestOf(folder), modelDir: folder });
  const made: Buffer[] = [];
  for (const seed of SEEDS) {
    const job = await fluxJob(`seed-${seed}`, { prompt: "a red fox standing in fresh snow", width: 128, height: 128, steps: 4, seed });
    const context = new RecordingContext();
    await rig.pipeline.run([job], context, context.end);
    assert.equal(context.ends.get(job.id)?.ok, true);
    made.push(await pixelsOf(join(job.outDir, "image.png")));
  }
  return made;
}

/** The frames of a clip as the decoder gives them, before H.264, in levels of 255. */
async function clip(folder: string): Promise<Uint8Array> {
  const samples: Float32Array[] = [];
  const spoil = (path: string, { sample }: Record<string, Tensor>): void => {
    if (path.includes("/vae_decoder/") && sample?.type === "float32") samples.push(sample.data.slice());
  };
  await using rig = await openLtxRig({ manifest: await manifestOf(folder), modelDir: folder, spoil });
  const job = await ltxJob("clip", {
    prompt: "waves at a pier",
    width: 128,
    height: 96,
    frames: 17,
    fps: 30,
    steps: 8,
    seed: 5,
    guidance: 1,
  });
  const context = new RecordingContext();
  await rig.pipeline.run([job], context, context.end);
  assert.equal(context.ends.get(job.id)?.ok, true);
  assert.ok(samples.length > 0);
  return Uint8ClampedArray.from(
    samples.flatMap((sample) => Array.from(sample, (value) => (value * 0.5 + 0.5) * 255)),
  ) as unknown as Uint8Array;
}

/** One step of a decoder: what it was given and what it gave. */
interface Step {
  readonly ids: readonly number[];
  readonly logits: Float32Array;
}

/** Every decoder step of all goldens of this model, one transcript after the other. */
async function transcripts(folder: string): Promise<readonly (readonly Step[])[]> {
  const goldens = (await readWhisperGoldens()).filter(({ model }) => model === "tiny-whisper");
  assert.ok(goldens.length > 1);
  const all: Step[][] = [];
  for (const { seed, samples: length, logprob_threshold, no_speech_threshold, language } of goldens) {
    const steps: Step[] = [];
    const calls: Call[] = [];
    const spoil = (path: string, { logits }: Record<string, Tensor>): void => {
      const ids = calls.splice(0).at(-1)?.feeds["input_ids"];
      if (path.includes("decoder") && logits?.type === "float32" && ids !== undefined)
        steps.push({ ids: Array.from(ids.data, Number), logits: logits.data.slice() });
    };
    const { options, ...given } = await manifestOf(folder);
    const model = await openWhisperModel({
      ...(await whisperContext("tiny-whisper")),
      manifest: { ...given, options: { ...options, logprob_threshold, no_speech_threshold } },
      modelDir: folder,
      backend: recordingBackend(calls, spoil),
    });
    try {
      const audio = babble(seed, length);
      const samples = (): AsyncIterable<Int16Array> => inPieces(audio);
      const bins = model.config.melBins;
      const survey = await surveyAudio({ samples: samples(), bins, gateDbfs: -60, onPiece: async () => undefined });
      const features = new FeatureReader({ samples: samples(), bins, loudest: survey.loudest });
      const random = (): number => assert.fail("nothing is drawn");
      const windows = transcribe({ ...model, survey, features, language, random, onStep: () => undefined });
      for await (const window of windows) assert.ok(window.language !== "");
      all.push(steps);
    } finally {
      await model.release();
    }
  }
  return all;
}

/** How many steps were given the same tokens from the first on: until then both models were asked the same. */
function sameSteps(some: readonly Step[], others: readonly Step[]): number {
  const first = some.findIndex(({ ids }, i) => ids.join() !== others[i]?.ids.join());
  return first === -1 ? some.length : first;
}

function cosine(some: Float32Array, others: Float32Array): number {
  assert.equal(some.length, others.length);
  const product = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] ?? NaN), 0);
  return product(some, others) / Math.sqrt(product(some, some) * product(others, others));
}

for (const variant of VARIANTS) {
  test(`${variant.name}: the manifests pin what was written`, async () => {
    for (const slug of TINY) {
      const folder = folderOf(slug, variant);
      const manifest = await manifestOf(folder);
      assert.equal(manifest.slug, `${slug}-${variant.name}`);
      const files = modelFiles(manifest);
      assert.ok(files.length > 3);
      for (const file of files) assert.equal(await checkModelFile(folder, file), null);
    }
  });

  test(`${variant.name}: pictures of ${SEEDS.length} seeds are as near to the float model's as they should`, async () => {
    const [before, after] = [await pictures(folderOf("tiny-flux-schnell")), await pictures(folderOf("tiny-flux-schnell", variant))];
    const found = before.map((picture, i) => psnr(picture, present(after[i])));
    say(`${variant.name}: PSNR of pictures ${found.map((value) => value.toFixed(1)).join(", ")} dB`);
    for (const value of found)
      assert.ok(value >= variant.picture && value < Infinity, `${value} dB, expected ${variant.picture} and a difference`);
  });

  test(`${variant.name}: a clip is as near to the float model's as it should`, async () => {
    const found = psnr(await clip(folderOf("tiny-ltx-video")), await clip(folderOf("tiny-ltx-video", variant)));
    say(`${variant.name}: PSNR of a clip's frames ${found.toFixed(1)} dB`);
    assert.ok(found >= variant.clip && found < Infinity, `${found} dB, expected ${variant.clip} and a difference`);
  });

  test(`${variant.name}: asked the same, Whisper's decoder answers as it should`, async () => {
    const [before, after] = [await transcripts(folderOf("tiny-whisper")), await transcripts(folderOf("tiny-whisper", variant))];
    const same = before.map((steps, i) => sameSteps(steps, present(after[i])));
    const cosines = before.flatMap((steps, i) =>
      steps.slice(0, same[i]).map(({ logits }, step) => cosine(logits, present(after[i]?.[step]).logits)),
    );
    const least = Math.min(...cosines);
    say(
      `${variant.name}: cosine of ${cosines.length} steps' logits ${least.toFixed(5)} at least; equal steps ${same.join(", ")} of ${before.map(({ length }) => length).join(", ")}`,
    );
    // A step or more in each transcript: the language is asked for, or the first token.
    assert.ok(same.every((count) => count > 0));
    assert.ok(least >= variant.logits && least < 1, `${least}, expected ${variant.logits} and a difference`);
  });
}

test("numbers, rules, refusals and memory of the quantiser", async () => {
  const { stdout } = await exec(python, [join(ROOT, "scripts/export/quantize_check.py"), "--graphs", join(dir, "kinds")]);
  const lines = stdout.split("\n").filter((line) => line.startsWith("quantize check: "));
  for (const line of lines) say(line.slice("quantize check: ".length));
  assert.equal(lines.length, 5);
});

type Placed = Readonly<Record<string, Operators>>;

async function placementOn(kind: "cpu" | "cuda", graphs: readonly string[]): Promise<Placed> {
  const child = join(import.meta.dirname, "placement-child.ts");
  if (kind === "cpu") return JSON.parse((await exec(process.execPath, [child, kind, "-", ...graphs])).stdout) as Placed;
  // The name by which the provider asks for cuDNN: what is loaded under it already stays.
  const shim = join(dir, "pretend-gpu.so");
  await exec("gcc", ["-shared", "-fPIC", "-Wl,-soname,libcudnn.so.9", "-o", shim, join(ROOT, "scripts/pretend-gpu.c")]);
  const env = {
    ...process.env,
    LD_PRELOAD: shim,
    LD_LIBRARY_PATH: [`${cuda}/ort`, `${cuda}/driver`, process.env["LD_LIBRARY_PATH"]].join(":"),
  };
  return JSON.parse(
    (await exec(process.execPath, [child, kind, join(cuda, "ort/libonnxruntime.so.1"), ...graphs], { env })).stdout,
  ) as Placed;
}

const onnxIn = async (folder: string): Promise<readonly string[]> =>
  (await readdir(folder, { recursive: true })).filter((name) => name.endsWith(".onnx")).map((name) => join(folder, name));

function countOf(placed: Operators | undefined, provider: string): number {
  return placed?.[`${provider}ExecutionProvider`]?.["MatMulNBits"] ?? 0;
}

test("the kernels of onnxruntime 1.30's CUDA provider take every kind of weight that is written", async () => {
  const kinds = await onnxIn(join(dir, "kinds", "made"));
  const models = (await Promise.all(VARIANTS.flatMap((variant) => TINY.map((slug) => onnxIn(folderOf(slug, variant)))))).flat();
  const graphs = [...kinds, ...models];
  const stays = join(ROOT, "test/fixtures/ort/det.onnx");
  const onCuda = await placementOn("cuda", [...graphs, stays]);
  const onCpu = await placementOn(
    "cpu",
    graphs.filter((path) => !path.includes("bfloat16")),
  );
  assert.equal(onCuda[stays]?.["CPUExecutionProvider"]?.["Det"], 1, "an operator without a CUDA kernel is seen on the CPU");
  let nodes = 0;
  for (const path of graphs) {
    assert.equal(countOf(onCuda[path], "CPU"), 0, `${path} on a GPU`);
    // The same number as on the CPU, where bfloat16 has no kernel: those graphs have the weights of their float32 twins.
    const expected = countOf(onCpu[path.replace("bfloat16", "float32")], "CPU");
    assert.equal(countOf(onCuda[path], "CUDA"), expected, path);
    nodes += expected;
  }
  assert.equal(kinds.length, 36);
  const quantised = models.filter((path) => countOf(onCuda[path], "CUDA") > 0);
  assert.equal(quantised.length, VARIANTS.length * 6, "T5 and the transformer of two models, both parts of Whisper");
  say(`the CUDA provider takes all ${nodes} quantised nodes of ${graphs.length} graphs`);
});

test("the CPU has no kernel for bfloat16, as the table of kernels says", async () => {
  const graph = join(dir, "kinds", "made", "bfloat16-int4-32-symmetric.onnx");
  await assert.rejects(placementOn("cpu", [graph]), /MatMulNBits/);
});
