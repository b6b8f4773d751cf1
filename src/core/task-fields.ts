import type { Task } from "../protocol/task.ts";
import { MAX_URL_CHARS } from "./url-syntax.ts";

/**
 * What each task takes, one row a task; `planSubmit` walks the rows and knows no task by name. Numbers are bounded by the manifest's
 * `min_<name>` / `max_<name>` (texts: in characters), defaulted by its `defaults.<name>`, then by what stands here.
 */
export interface Field {
  readonly name: string;
  /** texts: one text or a list of them; url: http or https, fetched later and under guard. */
  readonly kind: "text" | "texts" | "choice" | "url" | "integer" | "number" | "boolean" | "seed";
  readonly required?: boolean;
  readonly min?: number;
  readonly max?: number;
  /** Of a choice. */
  readonly choices?: readonly string[];
  /** Features of the manifest that single choices need. */
  readonly choiceFeatures?: Readonly<Record<string, string>>;
  /** The only values of an integer. */
  readonly values?: readonly number[];
  /** Taken from the manifest's `languages`: the slug of one, or of a voice of the language that is asked for. */
  readonly spoken?: "lang" | "voice";
  /** Most members of `texts`. */
  readonly maxItems?: number;
  readonly fallback?: number | string | boolean;
  /** Rounded down to the manifest's `resolution_step`. */
  readonly aligned?: boolean;
  /**
   * Feature of the manifest without which the model does not have the field. A manifest that does not mention the feature has it when it
   * gives the field a limit or a default.
   */
  readonly feature?: string;
  /** Second name, under which public clients send it. */
  readonly alias?: string;
  /** Values that ask for nothing, besides the fallback: a model without the field takes them. Texts in lower case. */
  readonly neutral?: readonly (number | string)[];
  /** Public clients send it to every model, with values in this range: a model without it takes them and says that it did not use them. */
  readonly dial?: { readonly min: number; readonly max: number };
}

export type FileKind = "image" | "audio" | "video";

/** A field that files come in. */
export interface FileField {
  readonly name: string;
  readonly kind: FileKind;
  readonly required?: boolean;
  /** Second name, for several files; as many as the manifest's limit `max_input_images` says, else one. */
  readonly list?: string;
  /** Feature without which the model takes no such file. */
  readonly feature?: string;
}

export interface TaskRow {
  readonly fields: readonly Field[];
  readonly files?: readonly FileField[];
  /** Width and height that are absent follow the first image. */
  readonly sizeFromImage?: boolean;
}

/** Texts live in Redis: nobody needs more, and text encoders see far less. The contract's longest text is Kokoro's. */
const MAX_TEXT_CHARS = 10_001;
/** Those that all sound formats of the contract can hold. */
const SAMPLE_RATES: readonly number[] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];

type Options = Omit<Field, "name" | "kind">;
const text = (name: string, options: Options = {}): Field => ({ name, kind: "text", max: MAX_TEXT_CHARS, ...options });
const number = (name: string, options: Options = {}): Field => ({ name, kind: "number", ...options });
const integer = (name: string, options: Options = {}): Field => ({ name, kind: "integer", min: 1, ...options });
const choice = (name: string, choices: readonly string[], options: Options = {}): Field => ({ name, kind: "choice", choices, ...options });
const url = (name: string): Field => ({ name, kind: "url", required: true, max: MAX_URL_CHARS });
const file = (name: string, kind: FileKind, options: Omit<FileField, "name" | "kind"> = {}): FileField => ({ name, kind, ...options });

const required = { required: true };
const prompt = text("prompt", required);
const negativePrompt = text("negative_prompt", { feature: "supports_negative_prompt" });
/** Ranges of the public clients' own forms. */
const GUIDANCE_DIAL = { min: 0, max: 20 };
const STEPS_DIAL = { min: 1, max: 100 };
const guidance = number("guidance", {
  feature: "supports_guidance",
  alias: "guidance_scale",
  min: 0,
  neutral: [0, 1],
  dial: GUIDANCE_DIAL,
});
/** 1: off. Above it a second run a step is made for the negative prompt. */
const trueCfgScale = number("true_cfg_scale", { feature: "supports_true_cfg", min: 1, neutral: [0, 1] });
const steps = integer("steps", { feature: "supports_steps", dial: STEPS_DIAL });
const seed: Field = { name: "seed", kind: "seed" };
const size = (options: Options): readonly Field[] => [
  integer("width", { aligned: true, ...options }),
  integer("height", { aligned: true, ...options }),
];
const includeTimestamps: Field = { name: "include_ts", kind: "boolean", required: true };
/** A short text also comes with the status. */
const inline: Field = { name: "return_result_in_response", kind: "boolean", fallback: false };
const video = [prompt, negativePrompt, ...size(required), guidance, steps, integer("frames", required), integer("fps"), seed];
const lastFrame = file("last_frame_image", "image", { feature: "supports_last_frame" });

export const TASK_ROWS: Readonly<Record<Task, TaskRow>> = {
  txt2img: { fields: [prompt, negativePrompt, trueCfgScale, ...size(required), guidance, steps, seed] },
  img2img: {
    fields: [
      prompt,
      negativePrompt,
      trueCfgScale,
      ...size({}),
      guidance,
      steps,
      seed,
      number("strength", { min: 0.01, max: 1, fallback: 0.6 }),
    ],
    files: [file("image", "image", { required: true, list: "images" })],
    sizeFromImage: true,
  },
  txt2video: { fields: video },
  img2video: { fields: video, files: [file("first_frame_image", "image", required), lastFrame] },
  aud2video: { fields: video, files: [file("audio", "audio", required), file("first_frame_image", "image"), lastFrame] },
  txt2audio: {
    fields: [
      text("text", required),
      choice("mode", ["custom_voice", "voice_clone", "voice_design"], {
        fallback: "custom_voice",
        choiceFeatures: { voice_clone: "supports_voice_clone", voice_design: "supports_voice_design" },
      }),
      text("voice", { spoken: "voice" }),
      text("lang", { ...required, spoken: "lang" }),
      number("speed", required),
      choice("format", ["mp3", "wav", "flac", "ogg"], required),
      integer("sample_rate", { ...required, values: SAMPLE_RATES }),
      text("ref_text", { feature: "supports_voice_clone" }),
      text("instruct", { feature: "supports_voice_design" }),
    ],
    files: [file("ref_audio", "audio", { feature: "supports_voice_clone" })],
  },
  txt2music: {
    fields: [
      text("caption", required),
      text("lyrics", { neutral: ["[instrumental]", "[inst]"] }),
      number("duration", required),
      integer("bpm"),
      text("keyscale"),
      choice("timesignature", ["2", "3", "4", "6"]),
      text("vocal_language"),
      integer("inference_steps", { dial: STEPS_DIAL }),
      number("guidance_scale", { min: 0, neutral: [0, 1], dial: GUIDANCE_DIAL }),
      seed,
      choice("format", ["mp3", "wav", "flac"], required),
    ],
    files: [file("reference_audio", "audio")],
  },
  audiofile2txt: { fields: [includeTimestamps, inline], files: [file("audio", "audio", required)] },
  videofile2txt: { fields: [includeTimestamps, inline], files: [file("video", "video", required)] },
  aud2txt: { fields: [url("audio_url"), includeTimestamps, inline] },
  vid2txt: { fields: [url("video_url"), includeTimestamps, inline] },
  img2txt: {
    fields: [text("language"), choice("format", ["text", "json"], { fallback: "text" }), inline],
    files: [file("image", "image", required)],
  },
  txt2embedding: { fields: [{ name: "input", kind: "texts", required: true, min: 1, maxItems: 2_048 }, inline] },
  "img-rmbg": { fields: [], files: [file("image", "image", required)] },
  "img-upscale": { fields: [], files: [file("image", "image", required)] },
  "vid-rmbg": { fields: [], files: [file("video", "video", required)] },
  "vid-upscale": { fields: [number("scale")], files: [file("video", "video", required)] },
};

/** All names that files come under. */
export const FILE_FIELDS: ReadonlySet<string> = new Set(
  Object.values(TASK_ROWS).flatMap(({ files = [] }) => files.flatMap(({ name, list }) => [name, list ?? name])),
);

/** Fields that every task may carry and that are nobody's parameter. */
export const ENVELOPE_FIELDS: ReadonlySet<string> = new Set(["model", "webhook_url", "webhook_secret"]);

/** What a price may be asked by, instead of the file or the text itself. */
export const PRICE_FIELDS: readonly Field[] = [
  number("duration_seconds", { min: 0 }),
  number("duration", { min: 0 }),
  integer("count_text", { min: 0 }),
  integer("width"),
  integer("height"),
];
