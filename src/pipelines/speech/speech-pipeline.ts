import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { encodeAudio } from "../media/encode-audio.ts";
import type { JobEnd, JobOutput, Pipeline, RunContext } from "../pipeline.ts";
import { runEach } from "../run-each.ts";
import { parseSpeechJob, type SpeechJob } from "./speech-job.ts";

/** One sentence, ready to be spoken: mono float32 samples, about -1..1. Blocks while the session runs. */
export type Utterance = () => Promise<Float32Array>;

/** What a family of speech models does; the pipeline does the rest. */
export interface SpeechModel {
  /** Samples a second. */
  readonly sampleRate: number;
  /** Whether utterances come at the asked speed; else the sound is stretched afterwards, at the same pitch. */
  readonly ownSpeed: boolean;
  /** Silence between two sentences. */
  readonly pauseMs: number;
  /** The sentences of a text. `turn` is awaited before every piece of work that takes long. @throws AppError INVALID_INPUT, and whatever `turn` throws */
  prepare(job: SpeechJob, turn: () => Promise<void>): Promise<readonly Utterance[]>;
  probe(): Promise<void>;
  /** Milliseconds inside native runs so far. */
  sessionMs(): number;
  release(): Promise<void>;
}

/**
 * Text to speech, a sentence at a time: each goes to the encoder as it is spoken, so that memory does not grow with the text, and a cancel
 * gets in between two.
 *
 * Stages: text, speak (once a sentence), encode.
 */
export class SpeechPipeline implements Pipeline {
  readonly #manifest: Manifest;
  readonly #model: SpeechModel;

  constructor(manifest: Manifest, model: SpeechModel) {
    this.#manifest = manifest;
    this.#model = model;
  }

  run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    return runEach(jobs, end, (job) => this.#speak(job, context));
  }

  probe(): Promise<void> {
    return this.#model.probe();
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  async #speak(runnerJob: RunnerJob, context: RunContext): Promise<JobOutput> {
    const startedAt = performance.now();
    const sessionMsBefore = this.#model.sessionMs();
    const { sampleRate, ownSpeed } = this.#model;
    const job = parseSpeechJob(runnerJob, this.#manifest, sampleRate);
    const utterances = await this.#model.prepare(job, async () => {
      await context.stage("text");
      if (context.cancelled(job.id)) throw new AppError("CANCELLED", `job ${job.id} was cancelled before it was spoken`);
    });
    const spent = { runMs: performance.now() - startedAt };
    const tempo = ownSpeed ? {} : { tempo: job.speed };
    const target = { outDir: job.outDir, format: job.format, sampleRate: job.sampleRate, channels: 1, sourceRate: sampleRate, ...tempo };
    const { file, seconds } = await encodeAudio(this.#samples(job, utterances, context, spent), target);
    return {
      files: [file],
      seed: null,
      info: {
        duration_s: Number((ownSpeed ? seconds : seconds / job.speed).toFixed(3)),
        sample_rate: job.sampleRate,
        voice: job.voice,
        lang: job.lang,
      },
      inputMs: 0,
      runMs: spent.runMs,
      encodeMs: performance.now() - startedAt - spent.runMs,
      sessionMs: this.#model.sessionMs() - sessionMsBefore,
    };
  }

  async *#samples(
    { id }: SpeechJob,
    utterances: readonly Utterance[],
    context: RunContext,
    spent: { runMs: number },
  ): AsyncGenerator<Float32Array> {
    const steps = utterances.length;
    for (const [index, speak] of utterances.entries()) {
      await context.stage("speak");
      if (context.cancelled(id)) throw new AppError("CANCELLED", `job ${id} was cancelled before sentence ${index + 1} of ${steps}`);
      if (index > 0) yield new Float32Array(Math.round((this.#model.pauseMs / 1_000) * this.#model.sampleRate));
      const startedAt = performance.now();
      const samples = await speak();
      const stepMs = performance.now() - startedAt;
      spent.runMs += stepMs;
      context.progress(id, { fraction: (index + 1) / (steps + 1), stage: "speak", step: index + 1, steps, stepMs });
      yield samples;
    }
    await context.stage("encode");
  }
}
