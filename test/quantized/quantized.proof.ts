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
import { ContentChecks } from "../../src/models/content-checks.ts";
import { checkModelFolder } from "../../src/models/model-files.ts";
import type { Operators } from "../../src/protocol/ipc.ts";
import { MODELS, present } from "../support/flux-rig.ts";
import { clip, cosine, manifestOf, pictures, psnr, sameSteps, SEEDS, transcripts } from "./results.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, "..", "..");
const TINY = ["tiny-flux-schnell", "tiny-ltx-video", "tiny-whisper"] as const;
type Slug = (typeof TINY)[number];

interface Variant {
  readonly name: string;
  readonly args: readonly string[];
  /** between the outputs of each part for sample inputs */
  readonly cosine: number;
  /** PSNR in dB, between the pictures of one seed, and between the frames of one clip */
  readonly picture: number;
  readonly clip: number;
  /** cosine between the decoder's logits, as long as both models were given the same tokens */
  readonly logits: number;
}

/** A row of quantize_accuracy.py. */
interface Accuracy {
  readonly part: string;
  /** least cosine of its samples */
  readonly least: number;
}

const VARIANTS: readonly Variant[] = [
  { name: "int4", args: ["--bits", "4"], cosine: 0.96, picture: 30, clip: 28, logits: 0.9 },
  { name: "int4-zeros", args: ["--bits", "4", "--zero-points"], cosine: 0.96, picture: 30, clip: 28, logits: 0.9 },
  { name: "int8", args: ["--bits", "8"], cosine: 0.9998, picture: 49, clip: 48, logits: 0.999 },
  // Activations in 8 bits as well, block by block: how a CPU multiplies fast.
  { name: "int8-cpu", args: ["--bits", "8", "--target", "cpu"], cosine: 0.9997, picture: 48, clip: 46, logits: 0.998 },
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

for (const variant of VARIANTS) {
  test(`${variant.name}: the manifests pin what was written`, async () => {
    for (const slug of TINY) {
      const folder = folderOf(slug, variant);
      const manifest = await manifestOf(folder);
      assert.equal(manifest.slug, `${slug}-${variant.name}`);
      const { files, problems } = await checkModelFolder(folder, manifest, new ContentChecks());
      assert.ok(files.length > 3);
      assert.deepEqual(problems, []);
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

test("the table of cosines and PSNR, and its limit", async () => {
  const script = join(ROOT, "scripts/export/quantize_accuracy.py");
  for (const variant of VARIANTS) {
    for (const slug of TINY) {
      const args = [script, folderOf(slug), folderOf(slug, variant), "--size", "128", "--seeds", "2", "--json", join(dir, "accuracy.json")];
      await exec(python, [...args, "--least-cosine", String(variant.cosine)]);
      await assert.rejects(exec(python, [...args, "--seeds", "0", "--least-cosine", "0.9999999"]), { code: 1 });
      const { parts } = JSON.parse(await readFile(join(dir, "accuracy.json"), "utf8")) as { readonly parts: readonly Accuracy[] };
      assert.equal(parts.length, 2);
      say(`${variant.name}: ${slug}: ${parts.map(({ part, least }) => `${part} ${least.toFixed(5)}`).join(", ")}`);
    }
  }
});

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
