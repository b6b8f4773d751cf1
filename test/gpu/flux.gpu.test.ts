/**
 * On a machine with an NVIDIA GPU, after scripts/fetch-cuda.sh: `node --test test/gpu/*.gpu.test.ts`. Not part of scripts/test.
 * The tiny Flux is float32; tensor cores and other orders of summation leave a little more than on the CPU, so the pictures get 4 levels.
 */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { JobParams } from "../../src/protocol/job.ts";
import { largestDifference, pixelsOf, present, readGoldens } from "../support/flux-rig.ts";
import { startSystem } from "../support/system.ts";

const MAX_LEVELS = 4;

test("Flux runs on the GPU, its nodes on CUDA, and paints what diffusers painted", async () => {
  await using system = await startSystem({ DRYAPI_DEVICE: "cuda", DRYAPI_MODELS: "tiny-flux-schnell,tiny-flux-dev" });
  const worker = await system.startWorker();
  const goldens = (await readGoldens()).filter(({ case: golden }) => golden.task === "txt2img" && !Array.isArray(golden.prompt));
  assert.ok(goldens.length > 5);
  for (const golden of goldens) {
    const { model, prompt, width, height, steps, guidance, seed } = golden.case;
    const params: JobParams = { prompt: String(prompt), width, height, steps, seed, ...(model === "tiny-flux-dev" && { guidance }) };
    const id = await system.submit({ model, params });
    const view = await system.ended(model, id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    assert.ok(view.result !== null);
    assert.match(view.result.device, /^cuda:/);
    const pixels = await pixelsOf(join(system.dir, "objects", present(view.result.files[0]).key));
    assert.ok(largestDifference(pixels, present(golden.pictures[0])) <= MAX_LEVELS, golden.name);
  }
  const loaded = worker.lines.filter((line) => line.msg === "model loaded");
  assert.equal(loaded.length, 2);
  for (const line of loaded)
    assert.ok(Number((line["providers"] as Record<string, number>)["CUDAExecutionProvider"]) > 0, JSON.stringify(line));
  if (process.env["OUT"] !== undefined)
    await writeFile(join(process.env["OUT"], "worker.log"), worker.lines.map((line) => JSON.stringify(line)).join("\n"));
});
