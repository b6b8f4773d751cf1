import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import { numberParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { isAudioFormat, type AudioFormat } from "../media/encode-audio.ts";

/** A job's parameters, checked, with the manifest's defaults filled in. */
export interface SpeechJob {
  readonly id: string;
  readonly outDir: string;
  readonly text: string;
  /** Slugs of the manifest's `languages`. */
  readonly lang: string;
  readonly voice: string;
  /** 1 is the model's own. */
  readonly speed: number;
  readonly format: AudioFormat;
  /** Samples a second of the file. */
  readonly sampleRate: number;
}

/** @throws AppError INVALID_INPUT naming the parameter, its value and what was expected */
export function parseSpeechJob(job: RunnerJob, manifest: Manifest, modelRate: number): SpeechJob {
  const { params, id, outDir } = job;
  const number = (name: string, fallback: number): number => {
    const isGiven = params[name] !== undefined && params[name] !== null;
    const value = isGiven ? numberParam(params, name) : numberOr(manifest.defaults[name], fallback);
    const [low, high] = [manifest.limits[`min_${name}`] ?? -Infinity, manifest.limits[`max_${name}`] ?? Infinity];
    if (value < low || value > high) throw invalid(name, value, `${low} to ${high} for model ${manifest.slug}`);
    return value;
  };
  const text = stringParam(params, "text");
  if (text.trim() === "") throw invalid("text", "empty", "words to speak");
  const format = params["format"] ?? manifest.defaults["format"] ?? "mp3";
  if (!isAudioFormat(format)) throw invalid("format", JSON.stringify(format), "mp3, wav, flac or ogg");
  const { lang, voice } = chosenVoice(params, manifest);
  return { id, outDir, text, lang, voice, speed: number("speed", 1), format, sampleRate: number("sample_rate", modelRate) };
}

function chosenVoice(params: RunnerJob["params"], { languages = [], slug }: Manifest): { readonly lang: string; readonly voice: string } {
  const named = typeof params["lang"] === "string" ? params["lang"] : languages[0]?.slug;
  const language = languages.find((each) => each.slug === named);
  if (language === undefined)
    throw invalid("lang", named ?? "missing", `one of ${languages.map((each) => each.slug).join(", ")} for model ${slug}`);
  const wanted = typeof params["voice"] === "string" ? params["voice"] : language.voices[0]?.slug;
  const voice = language.voices.find((each) => each.slug === wanted);
  if (voice !== undefined) return { lang: language.slug, voice: voice.slug };
  throw invalid(
    "voice",
    wanted ?? "missing",
    `one of ${language.voices.map((each) => each.slug).join(", ")} for language ${language.slug}`,
  );
}

function numberOr(value: unknown, fallback: number): number {
  return typeof value === "number" ? value : fallback;
}

function invalid(name: string, value: number | string, expected: string): AppError {
  return new AppError("INVALID_INPUT", `parameter ${name} is ${value}, expected ${expected}`);
}
