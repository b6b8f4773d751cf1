import assert from "node:assert/strict";
import { readdir, readFile, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { test } from "node:test";
import { AppError } from "../../src/protocol/error.ts";
import type { JobOutput, RunnerJob } from "../../src/protocol/ipc.ts";
import type { Manifest } from "../../src/protocol/manifest.ts";
import { FLUX_FIXTURES, fluxJob, MODELS, openTinyRig, present, readManifest, RecordingContext, type FluxRig } from "../support/flux-rig.ts";
import { ltxJob, openLtxRig, TINY_LTX } from "../support/ltx-rig.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const FLUX = "tiny-flux-schnell";
const PARAMS = { prompt: "a red fox", width: 64, height: 64, steps: 2, seed: 7 };
/** What the runs of a stage are reckoned with here. */
const ACTIVATIONS = 10_000;

/** The manifest as if the model were as large as its files, and a budget that its largest stage fits into, and nothing beside it. */
async function tight(
  slug: string,
): Promise<{ readonly manifest: Manifest; readonly budgetBytes: number; readonly sizes: Map<string, number> }> {
  const manifest = await readManifest(slug);
  const sizes = new Map<string, number>();
  for (const [part, { file }] of Object.entries(manifest.parts)) sizes.set(part, (await stat(new URL(`${slug}/${file}`, MODELS))).size);
  const all = [...sizes.values()].reduce((sum, bytes) => sum + bytes, 0);
  return {
    manifest: { ...manifest, memoryBytes: { cpu: all + ACTIVATIONS, cuda: all + ACTIVATIONS } },
    budgetBytes: Math.max(...sizes.values()) + ACTIVATIONS,
    sizes,
  };
}

/** Files that a job left, by name. */
async function filesOf({ outDir }: RunnerJob): Promise<Record<string, string>> {
  const names = (await readdir(outDir)).toSorted();
  const contents = names.map(async (name) => [name, await readFile(join(outDir, name), "base64")] as const);
  return Object.fromEntries<string>(await Promise.all(contents));
}

async function outputs(rig: Pick<FluxRig, "pipeline">, jobs: readonly RunnerJob[]): Promise<readonly JobOutput[]> {
  const context = new RecordingContext();
  await rig.pipeline.run(jobs, context, context.end);
  return jobs.map(({ id }) => {
    const end = context.ends.get(id);
    assert.ok(end?.ok === true, String(end?.ok === false ? end.error : "no end"));
    return end.output;
  });
}

test("Flux by stages makes the same files, and never has more open than the budget allows", async () => {
  const { manifest, budgetBytes, sizes } = await tight(FLUX);
  await using resident = await openTinyRig(FLUX);
  await using staged = await openTinyRig(FLUX, { manifest, budgetBytes });
  const image = new URL("init-128.png", FLUX_FIXTURES).pathname;
  const kinds: readonly (() => Promise<RunnerJob>[])[] = [
    () => [fluxJob("alone", PARAMS)],
    () => [fluxJob("one", PARAMS), fluxJob("two", { ...PARAMS, prompt: "a blue whale", seed: 8 })],
    () => [fluxJob("guided", { ...PARAMS, negative_prompt: "grey", true_cfg_scale: 2 })],
    () => [fluxJob("picture", { ...PARAMS, strength: 0.5 }, image)],
  ];
  for (const make of kinds) {
    const [plain, byTurns] = [await Promise.all(make()), await Promise.all(make())];
    const [all] = await outputs(resident, plain);
    const [turns] = await outputs(staged, byTurns);
    for (const [index, job] of plain.entries()) assert.deepEqual(await filesOf(present(byTurns[index])), await filesOf(job), job.id);
    assert.deepEqual([all?.wakeMs, all?.parkMs], [undefined, undefined]);
    assert.ok(turns?.wakeMs !== undefined && turns.parkMs !== undefined && turns.wakeMs > 0);
    assert.ok(turns.wakeMs + turns.parkMs + turns.sessionMs <= turns.runMs, JSON.stringify(turns));
  }
  const partOf = new Map(Object.entries(manifest.parts).map(([part, { file }]) => [file, part]));
  const folder = new URL(FLUX, MODELS).pathname;
  const open = new Set<string>();
  let most = 0;
  for (const { path, opened } of staged.lives) {
    const part = partOf.get(relative(folder, path)) ?? path;
    if (opened) open.add(part);
    else open.delete(part);
    most = Math.max(
      most,
      [...open].reduce((sum, each) => sum + (sizes.get(each) ?? 0), 0),
    );
  }
  assert.ok(most > 0 && most + ACTIVATIONS <= budgetBytes, `${most} bytes were open, the budget is ${budgetBytes}`);
});

test("a prompt that was seen opens no text encoder again", async () => {
  const { manifest, budgetBytes } = await tight(FLUX);
  await using rig = await openTinyRig(FLUX, { manifest, budgetBytes, embeddingCacheBytes: 10_000_000 });
  const opened = (from: number): string[] => rig.lives.slice(from).flatMap(({ path, opened: isOpened }) => (isOpened ? [path] : []));
  await outputs(rig, [await fluxJob("first", PARAMS)]);
  const from = rig.lives.length;
  await outputs(rig, [await fluxJob("second", { ...PARAMS, seed: 9 })]);
  assert.equal(
    opened(from).some((path) => path.includes("text_encoder")),
    false,
  );
  assert.equal(
    opened(from).some((path) => path.includes("transformer")),
    true,
  );
});

test("a budget that fits all of the model keeps all of it open", async () => {
  const { manifest } = await tight(FLUX);
  await using rig = await openTinyRig(FLUX, { manifest, budgetBytes: manifest.memoryBytes.cpu ?? 0 });
  const [output] = await outputs(rig, [await fluxJob("fits", PARAMS)]);
  assert.equal(rig.lives.filter(({ opened }) => !opened).length, 0);
  assert.equal(output?.wakeMs, undefined);
});

test("a budget below the largest stage is refused with the numbers", async () => {
  const { manifest, budgetBytes } = await tight(FLUX);
  await assert.rejects(openTinyRig(FLUX, { manifest, budgetBytes: budgetBytes - 1 }), (thrown: unknown) => {
    assert.ok(thrown instanceof AppError && thrown.code === "DOES_NOT_FIT", String(thrown));
    for (const text of [/model tiny-flux-schnell/, /stage denoise/, /transformer/, /text_encoder_2/, /DRYAPI_DEVICE_BUDGET/])
      assert.match(thrown.message, text);
    return true;
  });
});

test("a cancel ends a job before its next graph is opened, and the model goes on", async () => {
  const { manifest, budgetBytes } = await tight(FLUX);
  await using rig = await openTinyRig(FLUX, { manifest, budgetBytes });
  const context = new RecordingContext(rig.guard);
  context.onStage = (name) => {
    if (name === "load:transformer") context.cancel("gone");
  };
  const from = rig.lives.length;
  await rig.pipeline.run([await fluxJob("gone", PARAMS)], context, context.end);
  const end = context.ends.get("gone");
  assert.ok(end?.ok === false && end.error instanceof AppError && end.error.code === "CANCELLED");
  assert.equal(context.stages.includes("denoise"), false);
  assert.equal(
    rig.lives.slice(from).some(({ path, opened }) => opened && path.includes("/transformer/")),
    false,
  );
  await outputs(rig, [await fluxJob("next", PARAMS)]);
});

test("LTX-Video by stages makes the same clip", async () => {
  const { manifest, budgetBytes } = await tight(TINY_LTX);
  await using resident = await openLtxRig();
  await using staged = await openLtxRig({ manifest: { memoryBytes: manifest.memoryBytes }, budgetBytes });
  const params = { prompt: "waves", width: 64, height: 64, frames: 9, fps: 8, steps: 2, seed: 3 };
  const [plain, byTurns] = [await ltxJob("a", params), await ltxJob("a", params)];
  await outputs(resident, [plain]);
  const [output] = await outputs(staged, [byTurns]);
  assert.deepEqual(await filesOf(byTurns), await filesOf(plain));
  assert.ok(output?.wakeMs !== undefined && output.wakeMs > 0);
});
