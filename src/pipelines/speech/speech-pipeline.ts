import type { OpenGraphs } from "../graph/open-graphs.ts";
import type { Output } from "../../protocol/result.ts";
import { jobPipeline } from "../job-pipeline.ts";
import type { JobRun } from "../job-run.ts";
import { encodeAudio } from "../media/encode-audio.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import type { LoadContext, PipelineFactory } from "../pipeline.ts";
import { parseSpeechJob, type SpeechJob } from "./speech-job.ts";

/** One sentence, ready to be spoken: mono float32 samples, about -1..1. */
export type Utterance = () => Promise<Float32Array>;

/** What a family of speech models does; the pipeline does the rest. */
export interface SpeechModel extends OpenGraphs {
  /** Samples a second. */
  readonly sampleRate: number;
  /** Whether utterances come at the asked speed; else the sound is stretched afterwards, at the same pitch. */
  readonly ownSpeed: boolean;
  /** Silence between two sentences. */
  readonly pauseMs: number;
  /** The sentences of a text. `begin` is called before each piece of work. @throws AppError INVALID_INPUT, and whatever `begin` throws */
  prepare(job: SpeechJob, begin: () => void): Promise<readonly Utterance[]>;
  /** Speaks something short. */
  probe(): Promise<Float32Array>;
}

/**
 * Text to speech, a sentence at a time: each goes to the encoder as it is spoken, so that memory does not grow with the text, and a cancel
 * gets in between two.
 *
 * Stages: text, speak (once a sentence), encode.
 */
export function speechPipeline(open: (context: LoadContext) => Promise<SpeechModel>): PipelineFactory {
  return jobPipeline({
    open: (context) => {
      // Without it no file can be written: that shows now, not after the work.
      findFfmpeg();
      return open(context);
    },
    probe: (model) => model.probe(),
    make,
  });
}

async function make(run: JobRun, model: SpeechModel): Promise<Output> {
  const { sampleRate, ownSpeed } = model;
  const job = parseSpeechJob(run.job, run.manifest, sampleRate);
  run.spend("run");
  const utterances = await model.prepare(job, () => run.begin("text"));
  const { file, seconds } = await encodeAudio(samplesOf(utterances, run, model), {
    outDir: job.outDir,
    format: job.format,
    sampleRate: job.sampleRate,
    channels: 1,
    sourceRate: sampleRate,
    ...(!ownSpeed && { tempo: job.speed }),
  });
  return {
    files: [file],
    seed: null,
    info: {
      duration_s: Number((ownSpeed ? seconds : seconds / job.speed).toFixed(3)),
      sample_rate: job.sampleRate,
      voice: job.voice,
      lang: job.lang,
    },
  };
}

/** The sentences with their pauses; time outside of them is the encoder's. */
async function* samplesOf(
  utterances: readonly Utterance[],
  run: JobRun,
  { pauseMs, sampleRate }: SpeechModel,
): AsyncGenerator<Float32Array> {
  const steps = utterances.length;
  for (const [index, speak] of utterances.entries()) {
    run.spend("run");
    run.begin("speak");
    const startedAt = performance.now();
    const samples = await speak();
    const stepMs = performance.now() - startedAt;
    run.progress("speak", (index + 1) / (steps + 1), { step: index + 1, steps, stepMs });
    run.spend("encode");
    if (index > 0) yield new Float32Array(Math.round((pauseMs / 1_000) * sampleRate));
    yield samples;
  }
  run.begin("encode");
}
