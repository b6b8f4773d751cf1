import { AppError } from "../../protocol/error.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import { TorchRandom } from "../diffusion/torch-random.ts";
import type { Output } from "../../protocol/result.ts";
import { jobPipeline } from "../job-pipeline.ts";
import type { JobRun } from "../job-run.ts";
import { decodeAudio } from "../media/decode-audio.ts";
import { writeComplete } from "../media/write-complete.ts";
import type { PipelineFactory } from "../pipeline.ts";
import { FeatureReader, WINDOW_FRAMES, type Samples } from "./feature-reader.ts";
import { SAMPLE_RATE } from "./log-mel.ts";
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
export const createWhisperPipeline: PipelineFactory = jobPipeline({
  open: openWhisperModel,
  /** Encodes a window of silence. */
  probe: ({ encoder, config }) => encoder.encodeToHost(new Float32Array(config.melBins * WINDOW_FRAMES)),
  make,
});

async function make(run: JobRun, model: WhisperModel): Promise<Output> {
  const { outDir, params } = run.job;
  const survey = await listen(run, model);
  run.spend("run");
  const transcript = await writeDown(run, model, survey);
  run.spend("encode");
  run.begin("write");
  const text = transcriptText(transcript, params["include_ts"] === true);
  const files = [
    await written(outDir, { name: "transcript.txt", role: "main", contentType: "text/plain; charset=utf-8", text }),
    await written(outDir, { name: "transcript.json", role: "alt", contentType: "application/json", text: transcriptJson(transcript) }),
  ];
  return {
    files,
    seed: null,
    info: { duration_s: Number(survey.seconds.toFixed(3)), segments: transcript.lines.length, language: transcript.language ?? "none" },
    ...(params["return_result_in_response"] === true && { text }),
  };
}

function samplesOf({ job, manifest }: JobRun): Samples {
  const [input] = job.inputs;
  if (input === undefined)
    throw new AppError("INVALID_INPUT", `job ${job.id}: task ${job.task} needs a sound or film file, it has none`, {
      detail: `Task ${job.task} needs a sound or film file.`,
    });
  const { path, name: field } = input;
  return decodeAudio({ path, field, sampleRate: SAMPLE_RATE, maxSeconds: manifest.limits["max_duration"] ?? MAX_SECONDS });
}

async function listen(run: JobRun, { config }: WhisperModel): Promise<AudioSurvey> {
  run.begin("listen");
  let nextAt = STAGE_EVERY_S;
  return surveyAudio({
    samples: samplesOf(run),
    bins: config.melBins,
    gateDbfs: config.thresholds.gate_dbfs,
    onPiece: async (seconds) => {
      if (seconds < nextAt) return;
      nextAt = seconds + STAGE_EVERY_S;
      run.begin("listen");
    },
  });
}

async function writeDown(run: JobRun, { config, encoder, decoder, tokenizer }: WhisperModel, survey: AudioSurvey): Promise<Transcript> {
  const random = new TorchRandom(SEED);
  await using features = new FeatureReader({ samples: samplesOf(run), bins: config.melBins, loudest: survey.loudest });
  const windows = transcribe({
    encoder,
    decoder,
    config,
    survey,
    features,
    language: null,
    random: () => random.uint32() / 2 ** 32,
    onStep: (stage) => run.begin(stage),
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
    run.progress("decode", LISTENING + share * (1 - LISTENING), { step: Math.min(steps, Math.ceil(share * steps)), steps, stepMs });
  }
  return { language: lines.length === 0 ? null : spoken, duration: survey.seconds, lines };
}

interface TextFile extends Pick<SpoolFile, "name" | "role" | "contentType"> {
  readonly text: string;
}

async function written(outDir: string, { text, ...file }: TextFile): Promise<SpoolFile> {
  return { ...file, ...(await writeComplete(outDir, file.name, Buffer.from(text))) };
}
