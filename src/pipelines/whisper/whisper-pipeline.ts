import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { FileRole, SpoolFile } from "../../protocol/result.ts";
import { TorchRandom } from "../diffusion/torch-random.ts";
import { decodeAudio } from "../media/decode-audio.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import { writeComplete } from "../media/write-complete.ts";
import type { JobEnd, JobOutput, Pipeline, PipelineFactory, RunContext } from "../pipeline.ts";
import { runEach } from "../run-each.ts";
import { FeatureReader, WINDOW_FRAMES, type Samples } from "./feature-reader.ts";
import { FRAMES_PER_SECOND, SAMPLE_RATE } from "./log-mel.ts";
import { surveyAudio, type AudioSurvey } from "./survey-audio.ts";
import { transcribe } from "./transcribe.ts";
import { transcriptJson, transcriptText, type Line, type Transcript } from "./transcript.ts";
import { openWhisperModel, type WhisperModel } from "./whisper-model.ts";

/** Whisper's limit in the public API: 600 minutes. */
const MAX_SECONDS = 36_000;
/** The first pass, which only listens, of a job's progress. */
const LISTENING = 0.05;
/** Pieces come 30 a second of audio or so: a cancel need not get in between all of them. */
const STAGE_EVERY_S = 10;
/** Same seed always: a text that is drawn again at a higher temperature is the same for the same audio. */
const SEED = 0;

/**
 * Whisper: speech to text, any length. Equal to transformers' generate() in tokens and times (test/integration/whisper-golden.test.ts).
 *
 * Stages: listen (all audio once), encode, language, decode (once a token), write.
 */
export const createWhisperPipeline: PipelineFactory = async (context) => {
  findFfmpeg();
  return new WhisperPipeline(context.manifest, await openWhisperModel(context));
};

class WhisperPipeline implements Pipeline {
  readonly #manifest: Manifest;
  readonly #model: WhisperModel;

  constructor(manifest: Manifest, model: WhisperModel) {
    this.#manifest = manifest;
    this.#model = model;
  }

  run(jobs: readonly RunnerJob[], context: RunContext, end: (id: string, end: JobEnd) => void): Promise<void> {
    return runEach(jobs, end, (job) => this.#write(job, context));
  }

  /** Encodes a window of silence: one real run on the device. */
  async probe(): Promise<void> {
    const { encoder, config } = this.#model;
    const hidden = await encoder.encode(new Float32Array(config.melBins * WINDOW_FRAMES));
    if (hidden.data.length === 0) throw new AppError("DEVICE_UNAVAILABLE", `model ${this.#manifest.slug}: the probe's output is empty`);
  }

  close(): Promise<void> {
    return this.#model.release();
  }

  async #write(job: RunnerJob, context: RunContext): Promise<JobOutput> {
    const startedAt = performance.now();
    const sessionMsBefore = this.#model.sessionMs();
    const survey = await this.#listen(job, context);
    const inputMs = performance.now() - startedAt;
    const transcript = await this.#transcribe(job, survey, context);
    const runMs = performance.now() - startedAt - inputMs;
    await context.stage("write");
    const text = transcriptText(transcript, job.params["include_ts"] === true);
    const files = [
      await written(job.outDir, { name: "transcript.txt", role: "main", contentType: "text/plain; charset=utf-8", text }),
      await written(job.outDir, {
        name: "transcript.json",
        role: "alt",
        contentType: "application/json",
        text: transcriptJson(transcript),
      }),
    ];
    return {
      files,
      seed: null,
      info: { duration_s: Number(survey.seconds.toFixed(3)), segments: transcript.lines.length, language: transcript.language ?? "none" },
      ...(job.params["return_result_in_response"] === true && { text }),
      inputMs,
      runMs,
      encodeMs: performance.now() - startedAt - inputMs - runMs,
      sessionMs: this.#model.sessionMs() - sessionMsBefore,
    };
  }

  #samples(job: RunnerJob): Samples {
    const input = job.inputs[0];
    if (input === undefined) throw new AppError("INVALID_INPUT", `job ${job.id}: task ${job.task} needs a sound or film file, it has none`);
    const maxSeconds = this.#manifest.limits["max_duration"] ?? MAX_SECONDS;
    return decodeAudio({ path: input.path, sampleRate: SAMPLE_RATE, maxSeconds });
  }

  async #listen(job: RunnerJob, context: RunContext): Promise<AudioSurvey> {
    const { melBins, thresholds } = this.#model.config;
    await context.stage("listen");
    let nextAt = STAGE_EVERY_S;
    return surveyAudio({
      samples: this.#samples(job),
      bins: melBins,
      gateDbfs: thresholds.gate_dbfs,
      onPiece: async (seconds) => {
        if (seconds < nextAt) return;
        nextAt = seconds + STAGE_EVERY_S;
        await context.stage("listen");
        throwIfCancelled(job, context, seconds);
      },
    });
  }

  async #transcribe(job: RunnerJob, survey: AudioSurvey, context: RunContext): Promise<Transcript> {
    const { config, encoder, decoder, tokenizer } = this.#model;
    const random = new TorchRandom(SEED);
    await using features = new FeatureReader({ samples: this.#samples(job), bins: config.melBins, loudest: survey.loudest });
    const windows = transcribe({
      encoder,
      decoder,
      config,
      survey,
      features,
      language: null,
      random: () => random.uint32() / 2 ** 32,
      onStep: async (stage, frame) => {
        await context.stage(stage);
        throwIfCancelled(job, context, frame / FRAMES_PER_SECOND);
      },
    });
    const lines: Line[] = [];
    let spoken: string | null = null;
    let startedAt = performance.now();
    const steps = Math.max(1, Math.ceil(survey.contentFrames / WINDOW_FRAMES));
    for await (const { endFrame, language, segments } of windows) {
      spoken = language;
      for (const { start, end, tokens } of segments) {
        const text = tokenizer.decode(tokens);
        if (text.trim() !== "") lines.push({ start: Math.min(start, survey.seconds), end: Math.min(end, survey.seconds), text });
      }
      const share = endFrame / survey.contentFrames;
      const stepMs = performance.now() - startedAt;
      startedAt = performance.now();
      const at = { step: Math.min(steps, Math.ceil(share * steps)), steps, stepMs };
      context.progress(job.id, { fraction: LISTENING + share * (1 - LISTENING), stage: "decode", ...at });
    }
    return { language: lines.length === 0 ? null : spoken, duration: survey.seconds, lines };
  }
}

function throwIfCancelled({ id }: RunnerJob, context: RunContext, seconds: number): void {
  if (context.cancelled(id)) throw new AppError("CANCELLED", `job ${id} was cancelled at second ${Math.round(seconds)} of its audio`);
}

interface TextFile {
  readonly name: string;
  readonly role: FileRole;
  readonly contentType: string;
  readonly text: string;
}

async function written(outDir: string, { text, ...file }: TextFile): Promise<SpoolFile> {
  return { ...file, ...(await writeComplete(outDir, file.name, Buffer.from(text))) };
}
