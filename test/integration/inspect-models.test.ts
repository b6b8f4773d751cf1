import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { promisify } from "node:util";
import { readOnnx } from "../../src/models/onnx/read-onnx.ts";
import { findGraphs } from "../../src/models/onnx/find-graphs.ts";
import { proposeManifest } from "../../src/models/propose-manifest.ts";
import { openBackend } from "../../src/runner/open-backend.ts";
import { loadFrom } from "../support/pipeline-rig.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const MODELS = join(ROOT, "models");
const FIXTURES = join(ROOT, "test", "fixtures");
const SLUGS = ["tiny-flux-dev", "tiny-flux-schnell", "tiny-ltx-video", "tiny-kokoro", "tiny-vits", "tiny-musicgen", "tiny-whisper"];
const exec = promisify(execFile);

const root = await mkdtemp(join(tmpdir(), "dryapi-inspect-"));
after(() => rm(root, { recursive: true, force: true }));

/** onnxruntime's names for the types of onnx.proto. */
const RUNTIME_TYPES: Readonly<Record<string, string>> = { float: "float32" };

test("what is read of every tiny graph is what onnxruntime says of it", async () => {
  process.env["ORT_DISABLE_TELEMETRY"] = "1";
  const backend = openBackend({ device: { kind: "cpu", index: 0, threads: 1 } });
  for (const slug of SLUGS) {
    for (const { file, onnx } of (await findGraphs(join(MODELS, slug))).graphs) {
      const session = await backend.open(join(MODELS, slug, file));
      const read = (edges: typeof session.inputs | NonNullable<typeof onnx>["inputs"] = []) =>
        edges.map(({ name, type, dims }) => ({
          name,
          type: RUNTIME_TYPES[type] ?? type,
          rank: dims.length,
          sizes: dims.filter(Number.isInteger),
        }));
      assert.deepEqual(read(onnx?.inputs), read(session.inputs), `${slug}/${file}`);
      // It works out sizes of outputs that the file leaves open.
      const rough = (edges: ReturnType<typeof read>) => edges.map(({ name, type, rank }) => ({ name, type, rank }));
      assert.deepEqual(rough(read(onnx?.outputs)), rough(read(session.outputs)), `${slug}/${file}`);
      await session.release();
    }
  }
});

test("a graph cut off at any byte is no model", async () => {
  const whole = await readFile(join(FIXTURES, "ort/layers.onnx"));
  const path = join(root, "cut.onnx");
  for (let length = 0; length < whole.length; length++) {
    await writeFile(path, whole.subarray(0, length));
    await assert.rejects(readOnnx(path), { name: "OnnxDamage" }, `${length} of ${whole.length} bytes`);
  }
  await writeFile(path, whole);
  assert.deepEqual([...(await readOnnx(path)).opsets], [["", 17]]);
});

test("a file of 20 GB is judged by its lengths alone", async () => {
  // Field 7 (the graph) of 20 GB that begins with an initializer's raw data, in a sparse file.
  const varint = (value: number): number[] => (value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))]);
  const size = 20e9;
  const raw = [0x4a, ...varint(size)];
  const tensor = [0x2a, ...varint(raw.length + size)];
  const head = Buffer.from([0x08, 8, 0x42, 2, 0x10, 17, 0x3a, ...varint(tensor.length + raw.length + size), ...tensor, ...raw]);
  const path = join(root, "big.onnx");
  await writeFile(path, head);
  await truncate(path, head.length + size);
  assert.equal((await readOnnx(path)).weightBytes, size + raw.length);
  await truncate(path, head.length + size - 1);
  await assert.rejects(readOnnx(path), /is cut off, .*goes on to byte 200000000\d\d at least/);
});

test("of each tiny folder a manifest is proposed that loads it as it is", async () => {
  for (const slug of SLUGS) {
    const shipped = JSON.parse(await readFile(join(MODELS, slug, "model.json"), "utf8")) as Record<string, unknown>;
    const dir = join(root, slug);
    await cp(join(MODELS, slug), dir, { recursive: true });
    const proposal = proposeManifest(await findGraphs(dir));
    assert.deepEqual([proposal?.family, proposal?.manifest["tasks"]], [shipped["family"], shipped["tasks"]], slug);
    // Which languages and voices there are is in no graph.
    const languages = slug === "tiny-kokoro" ? { languages: shipped["languages"] } : {};
    await writeFile(join(dir, "model.json"), JSON.stringify({ ...proposal?.manifest, ...languages }));
    const { pipeline } = await loadFrom(dir);
    await pipeline.probe();
    await pipeline.close();
  }
});

test("of a foreign layout the parts, their files and what is not sure are named", async () => {
  const proposal = proposeManifest(await findGraphs(join(FIXTURES, "flux/tiny-flux-bfl")));
  assert.equal(proposal?.family, "flux");
  const parts = proposal.manifest["parts"] as Record<string, unknown>;
  assert.deepEqual(parts["transformer"], { file: "transformer.opt/fp16/model.onnx" });
  assert.match(proposal.notes.join("\n"), /no graph here fits part vae_decoder|parts\.vae_decoder/);
  assert.deepEqual(proposal.manifest["tasks"], ["txt2img"]);
});

test("verify --load opens every graph, runs the smallest request and says where the nodes are; a graph of another shape fails", async () => {
  const run = (slug: string, more: Readonly<Record<string, string>> = {}) =>
    exec(process.execPath, [join(ROOT, "src/cli.ts"), "models", "verify", slug, "--load", "--json"], {
      env: { PATH: process.env["PATH"] ?? "", HOME: root, DRYAPI_STATE_DIR: root, DRYAPI_DEVICE: "cpu", ...more },
    });
  const tasks = { "tiny-whisper": "audiofile2txt", "tiny-vits": "txt2audio", "tiny-flux-schnell": "txt2img" };
  for (const [slug, task] of Object.entries(tasks)) {
    const { reports } = JSON.parse((await run(slug)).stdout) as {
      reports: { placement: { graphs: object[]; job: { task: string; files: number } } }[];
    };
    assert.equal(reports[0]?.placement.job.task, task);
    assert.ok(reports[0].placement.job.files > 0 && reports[0].placement.graphs.length > 0);
  }
  const dir = join(root, "foreign", "tiny-vits");
  await cp(join(MODELS, "tiny-vits"), dir, { recursive: true });
  await cp(join(FIXTURES, "ort/det.onnx"), join(dir, "model.onnx"));
  const { parts: _, ...bare } = JSON.parse(await readFile(join(dir, "model.json"), "utf8")) as Record<string, unknown>;
  await writeFile(join(dir, "model.json"), JSON.stringify(bare));
  await assert.rejects(run("tiny-vits", { DRYAPI_MODELS_DIR: join(root, "foreign") }), (thrown: { code?: number; stdout?: string }) => {
    return thrown.code === 1 && /no input input_ids/.test(thrown.stdout ?? "");
  });
});

test("the command prints edges, operators and their provider, and fails for a damaged file", async () => {
  const run = (...args: readonly string[]) =>
    exec(process.execPath, [join(ROOT, "src/cli.ts"), "models", "inspect", ...args], {
      env: { PATH: process.env["PATH"] ?? "", HOME: root, DRYAPI_STATE_DIR: root },
    });
  const { stdout } = await run(join(MODELS, "tiny-whisper"), "--device", "cpu");
  assert.match(stdout, /in {3}input_features float\[batch_size, 80, 3000\]/);
  assert.match(stdout, /ops {2}96 nodes: Constant 29, Add 11/);
  assert.match(stdout, /on {3}CPUExecutionProvider: \d+ nodes: /);
  assert.match(stdout, /"family": "whisper"/);
  const path = join(root, "half.onnx");
  await cp(join(MODELS, "tiny-vits/model.onnx"), path);
  await truncate(path, 100_000);
  await assert.rejects(
    run(path),
    (thrown: { code?: number; stdout?: string }) => thrown.code === 1 && /half\.onnx is cut off/.test(thrown.stdout ?? ""),
  );
});
