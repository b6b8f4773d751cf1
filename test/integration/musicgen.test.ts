import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import { loadShipped, runJob, samplesOf, type LoadedModel } from "../support/pipeline-rig.ts";
import { bound } from "../support/test-device.ts";

const FIXTURES = join(import.meta.dirname, "..", "fixtures", "musicgen");
const FRAME_RATE = 50;
const TOLERANCE = bound({ cpu: 1e-3, cuda: 5e-3 });

interface Case {
  readonly name: string;
  readonly caption: string;
  readonly guidance: number;
  readonly frames: number;
  readonly samples: number;
  /** Null: the best code each time. */
  readonly seed: number | null;
  readonly top_k: number;
}

/** Music by the real graphs, against what transformers' generate() made of the same caption and seed. */
describe("MusicGen", () => {
  let root: string;
  let sampling: LoadedModel;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "musicgen-test-"));
    sampling = await loadShipped("tiny-musicgen");
  });
  after(async () => {
    await sampling.pipeline.close();
    await rm(root, { recursive: true, force: true });
  });

  const jobOf = async (params: JobParams): Promise<RunnerJob> => ({
    id: "music-1",
    task: "txt2music",
    params: { caption: "drums", duration: 0.4, seed: 1, format: "wav", ...params },
    inputs: [],
    outDir: await mkdtemp(join(root, "out-")),
  });
  const make = async (model: LoadedModel, params: JobParams): Promise<Float32Array> => {
    const job = await jobOf(params);
    const { end } = await runJob(model.pipeline, job);
    if (!end.ok) throw end.error;
    return samplesOf(join(job.outDir, "audio.wav"));
  };

  test("waveforms are those of transformers to 1e-3: greedy and sampled, with guidance, without, and without a caption", async () => {
    const cases = JSON.parse(await readFile(join(FIXTURES, "cases.json"), "utf8")) as Case[];
    assert.deepEqual(
      cases.map(({ seed }) => seed),
      [null, null, null, 7, 4_000_000_000],
    );
    for (const { name, caption, guidance, frames, samples: count, seed, top_k } of cases) {
      const model = await loadShipped("tiny-musicgen", { options: { top_k } });
      const samples = await make(model, { caption, guidance_scale: guidance, duration: frames / FRAME_RATE, seed: seed ?? 0 });
      await model.pipeline.close();
      assert.equal(samples.length, count, name);
      // Half floats and 16 bits each cost a part of the tolerance.
      const expected = new Float16Array(Uint8Array.from(await readFile(join(FIXTURES, `${name}.f16`))).buffer);
      const worst = samples.reduce((most, sample, index) => Math.max(most, Math.abs(sample - (expected[index] ?? NaN))), 0);
      assert.ok(worst <= TOLERANCE, `${name} differs by ${worst}`);
    }
  });

  test("a seed gives the same music, another one other music", async () => {
    const [first, again, other] = [await make(sampling, { seed: 5 }), await make(sampling, { seed: 5 }), await make(sampling, { seed: 6 })];
    assert.deepEqual(again, first);
    assert.notDeepEqual(other, first);
  });

  test("each step is told, the length is as asked", async () => {
    const { end, told } = await runJob(sampling.pipeline, await jobOf({ duration: 0.5, format: "mp3" }));
    assert.ok(end.ok);
    assert.equal(told.stages.filter((stage) => stage === "compose").length, 25 + 3);
    assert.deepEqual(
      told.fractions,
      told.fractions.toSorted((a, b) => a - b),
    );
    assert.deepEqual([end.output.info["duration_s"], end.output.info["sample_rate"], end.output.seed], [0.5, 32_000, 1]);
    assert.equal(end.output.files[0]?.name, "audio.mp3");
  });

  test("a cancel gets in between two steps", async () => {
    const job = await jobOf({ duration: 5 });
    const { end, told } = await runJob(sampling.pipeline, job, { cancelAtStage: 10 });
    assert.ok(!end.ok);
    assert.equal((end.error as { code?: string }).code, "CANCELLED");
    assert.equal(told.stages.length, 10);
    assert.deepEqual(await readdir(job.outDir), []);
  });

  test("bad input is told precisely, and the model goes on", async () => {
    for (const [params, message] of [
      [{ duration: 999 }, /parameter duration is 999, expected 0\.1 to 10 for model tiny-musicgen/],
      [{ format: "aiff" }, /parameter format is "aiff"/],
      [{ guidance_scale: 0 }, /parameter guidance_scale is 0, expected 1 to 10/],
    ] as const) {
      const { end } = await runJob(sampling.pipeline, await jobOf(params));
      assert.ok(!end.ok);
      assert.match((end.error as Error).message, message);
    }
    await sampling.pipeline.probe();
  });
});
