import { closest } from "../lib/closest.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { familyOptions } from "./extra-params.ts";
import { FAMILY_FIELDS, type Family } from "./family-fields.ts";
import { layoutOf } from "./family-layout.ts";
import { TASK_ROWS, type Field } from "./task-fields.ts";

/** Features of the API's contract that describe a model and that no field needs. */
const PLAIN_FEATURES = [
  "supports_custom_output_size",
  "supports_custom_voice",
  "supports_diarization",
  "supports_language",
  "supports_lora",
  "supports_lyrics",
  "supports_timestamps",
];
/** Limits beside `min_` and `max_` of a field. `max_duration`: seconds of sound or film that is transcribed. */
const PLAIN_LIMITS = ["resolution_step", "max_input_images", "max_duration"];

/** `options` of each family by name; their values are checked by its pipeline when the model is loaded. */
export const FAMILY_OPTIONS: Readonly<Record<Exclude<Family, "fake">, readonly string[]>> = {
  flux: ["clip_length", "t5_length"],
  "ltx-video": [
    "mode",
    "t5_length",
    "timesteps",
    "decode_timestep",
    "decode_noise_scale",
    "image_cond_noise_scale",
    "tile_frames",
    "tile_stride_frames",
  ],
  kokoro: ["sample_rate", "max_sentence_chars", "pause_ms"],
  vits: ["max_sentence_chars", "pause_ms"],
  musicgen: ["top_k", "temperature", "text_length"],
  whisper: ["gate_dbfs", "temperatures", "compression_ratio_threshold", "logprob_threshold", "no_speech_threshold"],
};

/** A line for each key of a manifest that nothing reads, with the nearest one that something does, and for each task that its family has not. */
export function unknownKeys(manifest: Manifest): readonly string[] {
  const { family, parts, files, limits, features, defaults } = manifest;
  if (family === "fake") return [];
  const layout = layoutOf(family);
  const fields = manifest.tasks.flatMap((task): readonly Field[] => TASK_ROWS[task].fields);
  const params = fields.map(({ name }) => name);
  return [
    ...oddTasks(manifest),
    ...odd("parts", Object.keys(parts), Object.keys(layout.graphs)),
    ...Object.entries(parts).flatMap(([part, { inputs }]) => odd(`parts.${part}.inputs`, Object.keys(inputs), layout.graphs[part]?.inputs)),
    ...Object.entries(parts).flatMap(([part, { outputs }]) =>
      odd(`parts.${part}.outputs`, Object.keys(outputs), layout.graphs[part]?.outputs),
    ),
    ...odd("files", Object.keys(files), Object.keys(layout.files)),
    ...odd("limits", Object.keys(limits), [
      ...params.flatMap((name) => [`min_${name}`, `max_${name}`]),
      ...declaredLimits(manifest),
      ...PLAIN_LIMITS,
    ]),
    ...odd("features", Object.keys(features), knownFeatures()),
    ...odd("defaults", Object.keys(defaults), [...params, ...declaredParams(manifest)]),
    ...odd("options", Object.keys(familyOptions(manifest)), [...FAMILY_OPTIONS[family], "params", "passParams", "prices"]),
  ];
}

function oddTasks({ family, tasks }: Manifest): readonly string[] {
  const can = FAMILY_FIELDS[family].tasks;
  if (can === null) return [];
  return tasks
    .filter((task) => !can.includes(task))
    .map((task) => `tasks names ${task}: family ${family} can do ${can.join(", ")}; take it out, or correct the family`);
}

/** `*` in a known name stands for a number. Nothing is said where nothing is known of what stands there. */
function odd(where: string, names: readonly string[], known: readonly string[] | undefined): readonly string[] {
  if (known === undefined) return [];
  const plain = new Set(known);
  const isKnown = (name: string): boolean => plain.has(name) || plain.has(name.replace(/\.\d+\./, ".*."));
  return names
    .filter((name) => !isKnown(name))
    .map((name) => {
      const near = closest(name, known);
      const choice = near === null ? `known: ${known.join(", ") || "none"}` : `did you mean ${near}?`;
      return `${where}.${name} is not known and would do nothing; ${choice}`;
    });
}

/** Parameters that the manifest declares itself. */
function declaredParams({ options }: Manifest): readonly string[] {
  const params: readonly unknown[] = Array.isArray(options["params"]) ? options["params"] : [];
  return params.flatMap((param) => {
    const name = typeof param === "object" && param !== null ? (param as { readonly name?: unknown }).name : param;
    return typeof name === "string" ? [name] : [];
  });
}

function declaredLimits(manifest: Manifest): readonly string[] {
  return declaredParams(manifest).flatMap((name) => [`min_${name}`, `max_${name}`]);
}

/** Of all tasks: a manifest may say that it has not what its family never has. */
function knownFeatures(): readonly string[] {
  const rows = Object.values(TASK_ROWS);
  const named = [
    ...rows.flatMap((row) => row.fields.map(({ feature }) => feature)),
    ...rows.flatMap((row) => row.fields.flatMap(({ choiceFeatures = {} }) => Object.values(choiceFeatures))),
    ...rows.flatMap((row) => (row.files ?? []).map(({ feature }) => feature)),
  ];
  return [...new Set([...named.filter((name) => name !== undefined), ...PLAIN_FEATURES])];
}
