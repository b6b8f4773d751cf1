import { TorchRandom } from "../diffusion/torch-random.ts";
import type { Output } from "../../protocol/result.ts";
import { jobPipeline } from "../job-pipeline.ts";
import type { JobRun } from "../job-run.ts";
import { encodeAudio } from "../media/encode-audio.ts";
import type { PipelineFactory } from "../pipeline.ts";
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
export const createMusicgenPipeline: PipelineFactory = jobPipeline({
  open: openMusicgenModel,
  /** Decodes the shortest clip. */
  probe: (model) => model.decodeCodes(Array.from({ length: model.config.books }, () => Array.from({ length: MIN_FRAMES }, () => 0))),
  make,
});

async function make(run: JobRun, model: MusicgenModel): Promise<Output> {
  const job = parseMusicgenJob(run.job, run.manifest);
  const { config } = model;
  const pattern = { frames: Math.max(MIN_FRAMES, Math.round(job.duration * config.frameRate)), books: config.books };
  run.spend("run");
  run.begin("text");
  const steps = await compose({ run, model, job, pattern });
  run.begin("decode");
  const samples = await model.decodeCodes(undelayed(pattern, steps));
  run.spend("encode");
  run.begin("encode");
  const { sampleRate } = config;
  const { file, seconds } = await encodeAudio(one(samples), {
    outDir: job.outDir,
    format: job.format,
    sampleRate,
    sourceRate: sampleRate,
    channels: 1,
  });
  return { files: [file], seed: job.seed, info: { duration_s: Number(seconds.toFixed(3)), sample_rate: sampleRate } };
}

interface Composing {
  readonly run: JobRun;
  readonly model: MusicgenModel;
  readonly job: MusicgenJob;
  readonly pattern: DelayPattern;
}

/** Codes by step, `[steps][books]`, still delayed. */
async function compose({ run, model, job, pattern }: Composing): Promise<readonly (readonly number[])[]> {
  const { decoder, config, sampling } = model;
  const random = new TorchRandom(job.seed);
  const total = stepsOf(pattern);
  const made: (readonly number[])[] = [];
  using sequence = decoder.begin(await model.encodeText(job.caption), job.guidance !== 1);
  let last: readonly number[] = Array.from({ length: config.books }, () => config.pad);
  const pick = (logits: readonly Float32Array[], book: number, numbers: Float32Array): number => {
    const withText = logits[book] ?? new Float32Array(0);
    const without = logits[config.books + book];
    return pickCode(without === undefined ? withText : guided(withText, without, job.guidance), sampling, numbers);
  };
  for (let step = 0; step < total; step++) {
    run.begin("compose");
    const startedAt = performance.now();
    const logits = await sequence.step(last);
    // Numbers for all codebooks at every step, as transformers draws them: those that only wait use theirs up as well.
    const numbers = last.map(() => (sampling.topK > 1 ? random.exponential(config.codes) : new Float32Array(0)));
    last = numbers.map((own, book) => (isOwn(pattern, book, step) ? pick(logits, book, own) : config.pad));
    made.push(last);
    const fraction = ((step + 1) / total) * (1 - AFTER_COMPOSING);
    run.progress("compose", fraction, { step: step + 1, steps: total, stepMs: performance.now() - startedAt });
  }
  return made;
}

async function* one(samples: Float32Array): AsyncGenerator<Float32Array> {
  yield samples;
}
