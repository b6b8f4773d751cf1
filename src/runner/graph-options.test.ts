import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { AppError } from "../protocol/error.ts";
import type { LoadCommand } from "../protocol/ipc.ts";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import type { RuntimeOptions } from "../protocol/runtime-options.ts";
import { graphOptions } from "./graph-options.ts";
import { loadModel } from "./load-model.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const modelDir = join(import.meta.dirname, "../../models/tiny-vits");

async function command(change: (manifest: Manifest) => Manifest, runtime?: RuntimeOptions): Promise<LoadCommand> {
  const manifest = parseManifest(JSON.parse(await readFile(join(modelDir, "model.json"), "utf8")), modelDir);
  const device = { kind: "cpu", index: 0, threads: 1 } as const;
  return {
    type: "load",
    manifest: change(manifest),
    modelDir,
    device,
    previews: false,
    embeddingCacheBytes: 0,
    ...(runtime !== undefined && { runtime }),
  };
}

const withParts = (manifest: Manifest, runtime: RuntimeOptions): Manifest => ({
  ...manifest,
  parts: Object.fromEntries(Object.entries(manifest.parts).map(([name, part]) => [name, { ...part, runtime }])),
});

test("the operator's options stand before the part's, and the part's before the model's", async () => {
  const load = await command(
    (manifest) => ({
      ...withParts(manifest, { cuda: { cudnn_conv_algo_search: "HEURISTIC", use_tf32: true } }),
      runtime: { cuda: { cudnn_conv_algo_search: "EXHAUSTIVE", prefer_nhwc: true } },
    }),
    { cuda: { use_tf32: false } },
  );
  const { settings } = graphOptions(load);
  const [part] = Object.values(load.manifest.parts);
  assert.deepEqual(settings.runtime(join(modelDir, part!.file)).cuda, {
    cudnn_conv_algo_search: "HEURISTIC",
    use_tf32: false,
    prefer_nhwc: true,
  });
  // A graph that is no part of the manifest.
  assert.deepEqual(settings.runtime(join(modelDir, "other.onnx")).cuda, {
    cudnn_conv_algo_search: "EXHAUSTIVE",
    use_tf32: false,
    prefer_nhwc: true,
  });
});

test("what providers report is kept once", async () => {
  const { settings, reports } = graphOptions(await command((manifest) => manifest));
  for (const options of ["a=1", "a=1", "", "a=2"]) settings.onProvider({ provider: "P", options });
  assert.deepEqual(reports(), ["P a=1", "P", "P a=2"]);
});

test("a load opens its graphs with the options of its parts", async () => {
  const load = await command((manifest) => withParts(manifest, { providers: { cpu: ["nobody"] } }));
  await assert.rejects(
    loadModel(load, () => undefined),
    (error: AppError) => error.code === "DEVICE_UNAVAILABLE" && /provider nobody is asked for/.test(error.message),
  );
  const { pipeline, reports } = await loadModel(
    await command((manifest) => withParts(manifest, { providers: { cpu: ["nobody"] } }), {
      providers: { cpu: ["cpu"] },
      intra_op_num_threads: 1,
    }),
    () => undefined,
  );
  await pipeline.close();
  assert.deepEqual(reports, []);
});
