/** A whole system whose daemon serves every family from the device, with its default options: TF32 as well. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { EXECUTION_PROVIDERS } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import type { Task } from "../../src/protocol/task.ts";
import { largestDifference, pixelsOf, present, readGoldens } from "../support/flux-rig.ts";
import { startSystem, type TestSystem } from "../support/system.ts";
import { TEST_DEVICE } from "../support/test-device.ts";
import { ENDLESS_TEXT, SHORT_TEXT, turnsModel } from "../support/turns-model.ts";
import { report } from "./report.ts";

/** Levels of 255. */
const MAX_LEVELS = 6;

interface Job {
  readonly model: string;
  readonly task: Task;
  readonly params: JobParams;
}

const JOBS: readonly Job[] = [
  { model: "tiny-ltx-video", task: "txt2video", params: { prompt: "waves", width: 64, height: 64, frames: 17, fps: 8, steps: 3, seed: 1 } },
  { model: "tiny-musicgen", task: "txt2music", params: { caption: "drums", duration: 0.4, seed: 1, format: "wav" } },
  { model: "tiny-vits", task: "txt2audio", params: { text: "A red fox.", lang: "en-us", speed: 1, format: "wav", sample_rate: 16_000 } },
  {
    model: "tiny-kokoro",
    task: "txt2audio",
    params: { text: "A red fox.", lang: "en-us", voice: "af_sky", speed: 1, format: "wav", sample_rate: 24_000 },
  },
];

/** Where the GPU's libraries are, where that was said. */
const LIBRARIES = Object.fromEntries(
  Object.entries(process.env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && ["DRYAPI_ORT_DIR", "DRYAPI_CUDA_LIBS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"].includes(entry[0]),
  ),
);
const ON_DEVICE = { ...LIBRARIES, DRYAPI_DEVICE: TEST_DEVICE.kind };

async function done(system: TestSystem, job: Job): Promise<{ readonly device: string; readonly key: string; readonly timings: unknown }> {
  const id = await system.submit(job);
  const view = await system.ended(job.model, id);
  assert.equal(view.state, "completed", `${job.model}: ${view.failedReason}`);
  const { device, files, timings } = present(view.result ?? undefined);
  return { device, key: present(files[0]).key, timings };
}

test("the daemon serves every family from the device, and paints what diffusers painted", async () => {
  const goldens = (await readGoldens()).filter(({ case: golden }) => golden.task === "txt2img" && !Array.isArray(golden.prompt));
  assert.ok(goldens.length > 5);
  const models = ["tiny-flux-schnell", "tiny-flux-dev", ...JOBS.map(({ model }) => model)];
  await using system = await startSystem({ ...ON_DEVICE, DRYAPI_MODELS: models.join() });
  const worker = await system.startWorker();
  const timings: Record<string, unknown> = {};
  for (const golden of goldens) {
    const { model, prompt, width, height, steps, guidance, seed } = golden.case;
    const params: JobParams = { prompt: String(prompt), width, height, steps, seed, ...(model === "tiny-flux-dev" && { guidance }) };
    const made = await done(system, { model, task: "txt2img", params });
    assert.ok(made.device.startsWith(`${TEST_DEVICE.kind}:`), made.device);
    const difference = largestDifference(await pixelsOf(join(system.dir, "objects", made.key)), present(golden.pictures[0]));
    assert.ok(difference <= MAX_LEVELS, `${golden.name} differs by ${difference} levels`);
    timings[golden.name] = { ...made, levels: difference };
  }
  for (const job of JOBS) timings[job.model] = await done(system, job);
  const loaded = worker.lines.filter((line) => line.msg === "model loaded");
  assert.deepEqual(new Set(loaded.map((line) => line["model"])), new Set(models));
  for (const line of loaded) {
    const providers = line["providers"] as Record<string, number>;
    assert.deepEqual(Object.keys(providers), [EXECUTION_PROVIDERS[TEST_DEVICE.kind]]);
  }
  report("daemon", timings);
  keepLog("daemon", worker.lines);
});

test("a cancel in the middle of a run that would never end ends the job; the model stays loaded", async () => {
  await using system = await startSystem({ ...ON_DEVICE, DRYAPI_CANCEL_GRACE_MS: "60s" });
  const worker = await system.startWorker(await turnsModel(join(system.dir, "models"), { slug: "layers", graph: "layers" }));
  const submit = (text: string): Promise<string> => system.submit({ model: "layers", task: "txt2audio", params: { text } });
  await system.ended("layers", await submit(SHORT_TEXT));
  const tookMs: number[] = [];
  for (let index = 0; index < 5; index++) {
    const id = await submit(ENDLESS_TEXT);
    await system.event((event) => event.id === id && event.stage === "speak");
    const at = performance.now();
    await system.cancel(id);
    await system.event((event) => event.id === id && event.type === "error");
    tookMs.push(performance.now() - at);
    const next = await system.ended("layers", await submit(SHORT_TEXT));
    assert.equal(next.state, "completed", next.failedReason ?? "");
  }
  assert.equal(worker.lines.filter(({ msg }) => msg === "model loaded").length, 1);
  report("cancel", { tookMs });
  keepLog("cancel", worker.lines);
});

function keepLog(name: string, lines: readonly object[]): void {
  const dir = process.env["OUT"];
  if (dir === undefined || dir === "") return;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, `${name}.log`), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}
