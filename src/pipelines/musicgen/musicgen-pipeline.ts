import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { TorchRandom } from "../diffusion/torch-random.ts";
import { encodeAudio } from "../media/encode-audio.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import type { JobEnd, JobOutput, Pipeline, PipelineFactory, RunContext } from "../pipeline.ts";
import { runEach } from "../run-each.ts";
import { isOwn, stepsOf, undelayed, type DelayPattern } from "./delay-pattern.ts";
import { parseMusicgenJob, type MusicgenJob } from "./musicgen-job.ts";
import { openMusicgenModel, type MusicgenModel } from "./musicgen-model.ts";
import { guided, pickCode } from "./pick-code.ts";

/** EnCodec's first convolution mirrors three frames at either end, and needs as many and one more. */
const MIN_FRAMES = 4;
/** Time that writing the file takes of a job's progress, and EnCodec. */
const AFTER_COMPOSING = 0.05;

/**
 * MusicGen: text to music. Follows transformers' MusicgenForConditionalGeneration on a CPU, waveforms to 1e-3, greedy and sampled: a seed
 * gives the same music here and there (test/integration/musicgen.test.ts).
 *
 * Stages: text, compose (once a step), decode, encode.
 */
export const createMusicgenPipeline: PipelineFactory = async (context) => {
  findFfmpeg();
  return new MusicgenPipeline(context.manifest, await openMusicgenModel(context));
};

class MusicgenPipeline implements Pipeline {
  readonly #manifest: Manifest;
  readonly #model: MusicgenModel;

  constructor(manifest: Manifest, model: MusicgenModel) {
    this.#manifest = manifest;
    this.#model = model;
  }

  run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    return runEach(jobs, end, async (job) => this.#make(parseMusicgenJob(job, this.#manifest), context));
  }

  /** Decodes the shortest clip: one real run on the device. */
  async probe(): Promise<void> {
    const { config } = this.#model;
    const samples = await this.#model.decodeCodes(Array.from({ length: config.books }, () => Array.from({ length: MIN_FRAMES }, () => 0)));
    if (samples.length === 0 || !samples.every(Number.isFinite))
      throw new AppError("DEVICE_UNAVAILABLE", `model ${this.#manifest.slug}: the probe's output is empty or not finite`);
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  async #make(job: MusicgenJob, context: RunContext): Promise<JobOutput> {
    const startedAt = performance.now();
    const sessionMsBefore = this.#model.sessionMs();
    const { config } = this.#model;
    const pattern = { frames: Math.max(MIN_FRAMES, Math.round(job.duration * config.frameRate)), books: config.books };
    await context.stage("text");
    const steps = await this.#compose(job, pattern, context);
    await context.stage("decode");
    const samples = await this.#model.decodeCodes(undelayed(pattern, steps));
    const runMs = performance.now() - startedAt;
    await context.stage("encode");
    const { sampleRate } = config;
    const target = { outDir: job.outDir, format: job.format, sampleRate, sourceRate: sampleRate, channels: 1 };
    const { file, seconds } = await encodeAudio(one(samples), target);
    return {
      files: [file],
      seed: job.seed,
      info: { duration_s: Number(seconds.toFixed(3)), sample_rate: sampleRate },
      inputMs: 0,
      runMs,
      encodeMs: performance.now() - startedAt - runMs,
      sessionMs: this.#model.sessionMs() - sessionMsBefore,
    };
  }

  /** Codes by step, `[steps][books]`, still delayed. */
  async #compose(job: MusicgenJob, pattern: DelayPattern, context: RunContext): Promise<readonly (readonly number[])[]> {
    const { decoder, config } = this.#model;
    const random = new TorchRandom(job.seed);
    const total = stepsOf(pattern);
    const made: (readonly number[])[] = [];
    let state = decoder.begin(await this.#model.encodeText(job.caption), job.guidance !== 1);
    let last: readonly number[] = Array.from({ length: config.books }, () => config.pad);
    for (let step = 0; step < total; step++) {
      await context.stage("compose");
      if (context.cancelled(job.id)) throw new AppError("CANCELLED", `job ${job.id} was cancelled at step ${step + 1} of ${total}`);
      const startedAt = performance.now();
      const next = await decoder.step(state, last);
      ({ state } = next);
      // Numbers for all codebooks at every step, as transformers draws them: those that only wait use theirs up as well.
      const numbers = last.map(() => (this.#model.sampling.topK > 1 ? random.exponential(config.codes) : new Float32Array(0)));
      last = numbers.map((own, book) => (isOwn(pattern, book, step) ? this.#pick(job, next.logits, book, own) : config.pad));
      made.push(last);
      const fraction = ((step + 1) / total) * (1 - AFTER_COMPOSING);
      context.progress(job.id, { fraction, stage: "compose", step: step + 1, steps: total, stepMs: performance.now() - startedAt });
    }
    return made;
  }

  #pick(job: MusicgenJob, logits: readonly Float32Array[], book: number, numbers: Float32Array): number {
    const withText = logits[book] ?? new Float32Array(0);
    const without = logits[this.#model.config.books + book];
    return pickCode(without === undefined ? withText : guided(withText, without, job.guidance), this.#model.sampling, numbers);
  }
}

async function* one(samples: Float32Array): AsyncGenerator<Float32Array> {
  yield samples;
}
