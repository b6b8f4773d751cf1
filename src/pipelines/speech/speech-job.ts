import { AppError } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import { invalidParam, stringParam } from "../../protocol/job.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { ParamReader } from "../job-params.ts";
import type { AudioFormat } from "../media/encode-audio.ts";

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
  const { id, outDir } = job;
  const params = new ParamReader(job.params, manifest);
  const text = stringParam(job.params, "text");
  if (text.trim() === "") throw nothingToSpeak(`model ${manifest.slug}`, text);
  const { lang, voice } = chosenVoice(job.params, manifest);
  const [speed, sampleRate] = [params.number("speed", 1), params.number("sample_rate", modelRate)];
  return { id, outDir, text, lang, voice, speed, format: params.audioFormat(), sampleRate };
}

/** To be thrown for a text that `speaker` (a model or a language) has no sound for. */
export function nothingToSpeak(speaker: string, text: string): AppError {
  const options = { field: "text", detail: `It has no word that ${speaker} can speak.` };
  return new AppError("NOTHING_TO_SPEAK", `the text has nothing that ${speaker} can speak: ${JSON.stringify(text.slice(0, 40))}`, options);
}

function chosenVoice(params: RunnerJob["params"], { languages = [], slug }: Manifest): { readonly lang: string; readonly voice: string } {
  const named = typeof params["lang"] === "string" ? params["lang"] : languages[0]?.slug;
  const language = languages.find((each) => each.slug === named);
  if (language === undefined)
    throw invalidParam("lang", named ?? "missing", `one of ${languages.map((each) => each.slug).join(", ")} for model ${slug}`);
  const wanted = typeof params["voice"] === "string" ? params["voice"] : language.voices[0]?.slug;
  const voice = language.voices.find((each) => each.slug === wanted);
  if (voice !== undefined) return { lang: language.slug, voice: voice.slug };
  throw invalidParam(
    "voice",
    wanted ?? "missing",
    `one of ${language.voices.map((each) => each.slug).join(", ")} for language ${language.slug}`,
  );
}
