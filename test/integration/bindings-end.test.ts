import assert from "node:assert/strict";
import { test } from "node:test";
import type { Backend, Session } from "../../src/pipelines/backend.ts";
import { VaeDecoder } from "../../src/pipelines/diffusion/vae-decoder.ts";
import { createFluxPipeline } from "../../src/pipelines/flux/flux-pipeline.ts";
import { createLtxPipeline } from "../../src/pipelines/ltx-video/ltx-pipeline.ts";
import type { Pipeline, PipelineFactory } from "../../src/pipelines/pipeline.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import { AppError } from "../../src/protocol/error.ts";
import { fluxJob, MODELS, readManifest, RecordingContext } from "../support/flux-rig.ts";
import { ltxJob } from "../support/ltx-rig.ts";
import { openTestBackend, TEST_DEVICE } from "../support/test-device.ts";

/** The real backend; knows which graphs have bindings that were not disposed of, and may fail a graph's runs. */
class WatchedBackend implements Backend {
  readonly open: Backend["open"];
  readonly guard: Backend["guard"];
  /** Part of each open binding. */
  readonly bound: string[] = [];
  onRun: (part: string) => void = () => undefined;

  constructor() {
    const backend = openTestBackend();
    this.guard = (signal) => backend.guard(signal);
    this.open = async (path) => this.#watch(await backend.open(path), path.split("/").at(-2) ?? path);
  }

  /** `onRun` throws within the caller's own `await`, as a failed run does. */
  #watch(session: Session, part: string): Session {
    return {
      inputs: session.inputs,
      outputs: session.outputs,
      get runMs() {
        return session.runMs;
      },
      get traffic() {
        return session.traffic;
      },
      run: (feeds) => session.run(feeds),
      release: () => session.release(),
      bind: () => {
        const binding = session.bind();
        this.bound.push(part);
        let ended = false;
        return {
          input: (name, value) => binding.input(name, value),
          output: (name, target) => binding.output(name, target),
          run: () => {
            this.onRun(part);
            return binding.run();
          },
          [Symbol.dispose]: () => {
            if (!ended) this.bound.splice(this.bound.indexOf(part), 1);
            ended = true;
            binding[Symbol.dispose]();
          },
        };
      },
    };
  }
}

async function open(slug: string, create: PipelineFactory, backend: Backend): Promise<Pipeline> {
  return create({
    manifest: await readManifest(slug),
    modelDir: new URL(slug, MODELS).pathname,
    device: TEST_DEVICE,
    backend,
    previews: false,
    embeddingCacheBytes: 0,
    budgetBytes: null,
    stage: () => undefined,
  });
}

const FAMILIES: readonly { slug: string; create: PipelineFactory; job: (id: string) => Promise<RunnerJob>; runs: number }[] = [
  {
    slug: "tiny-flux-dev",
    create: createFluxPipeline,
    job: (id) =>
      fluxJob(id, { prompt: "a pond", negative_prompt: "fog", true_cfg_scale: 2, width: 64, height: 64, steps: 3, guidance: 2, seed: 1 }),
    runs: 2,
  },
  {
    slug: "tiny-ltx-video",
    create: createLtxPipeline,
    job: (id) => ltxJob(id, { prompt: "waves", width: 64, height: 64, frames: 17, fps: 8, steps: 3, seed: 1, guidance: 3 }),
    runs: 1,
  },
];

for (const { slug, create, job, runs } of FAMILIES) {
  for (const ending of ["is done", "fails", "is cancelled"] as const) {
    test(`${slug}: what the steps had bound is given back before the decode, and when a job ${ending}`, async () => {
      const backend = new WatchedBackend();
      const pipeline = await open(slug, create, backend);
      const context = new RecordingContext();
      const made = await job(ending.replace(" ", "-"));
      let steps = 0;
      const inStep: number[] = [];
      const atDecode: number[] = [];
      backend.onRun = (part) => {
        if (part !== "transformer") return;
        steps += 1;
        inStep.push(backend.bound.filter((each) => each === "transformer").length);
        if (steps <= runs) return;
        if (ending === "fails") throw new AppError("PIPELINE_FAILED", "no kernel");
        if (ending === "is cancelled") context.cancel(made.id);
      };
      context.onStage = (name) => {
        if (name === "decode") atDecode.push(backend.bound.filter((each) => each === "transformer").length);
      };
      await pipeline.run([made], context, context.end);
      const end = context.ends.get(made.id);
      assert.equal(end?.ok, ending === "is done");
      // Both runs of classifier-free guidance are bound from the first step on.
      assert.equal(Math.max(...inStep), runs);
      assert.ok(atDecode.every((bound) => bound === 0) && atDecode.length > 0 === (ending === "is done"));
      assert.deepEqual(backend.bound, []);
      await pipeline.close();
    });
  }
}

test("a decoder that gives other pixels than the latents stand for is refused with both sizes, and runs again", async () => {
  const session = await openTestBackend({}, "c").open(new URL("tiny-flux-dev/vae_decoder/model.onnx", MODELS).pathname);
  const graph = { part: "vae_decoder", session, names: { inputs: {}, outputs: {} } };
  const shape = { channels: 16, height: 4, width: 4 };
  const latents = new Float32Array(16 * 4 * 4);
  await assert.rejects(
    new VaeDecoder(graph, { channels: 16, factor: 4 }).decode(latents, shape),
    (thrown) => thrown instanceof AppError && /1,3,16,16.*1,3,32,32/.test(thrown.message) && thrown.message.includes("vae_decoder"),
  );
  const { width, height, data } = await new VaeDecoder(graph, { channels: 16, factor: 8 }).decode(latents, shape);
  assert.deepEqual([width, height, data.every(Number.isFinite)], [32, 32, true]);
  await session.release();
});
