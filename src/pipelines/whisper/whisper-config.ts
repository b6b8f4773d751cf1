import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isMissing } from "../../lib/errno.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest, ManifestPart } from "../../protocol/manifest.ts";
import type { TokenRules } from "./timestamp-rules.ts";

/** Files of Optimum's and onnx-community's layout; a manifest names only those that lie elsewhere. */
const PARTS = { encoder: "onnx/encoder_model.onnx", decoder: "onnx/decoder_model_merged.onnx" } as const;
export type WhisperPart = keyof typeof PARTS;
const FILES = { config: "config.json", generation_config: "generation_config.json", tokenizer: "tokenizer.json" } as const;

const optionsSchema = z.strictObject({
  /** Root mean square of 0.1 s that counts as sound, relative to full scale. Windows without any are not decoded. */
  gate_dbfs: z.number().max(0).default(-60),
  /** Tried one after the other until a window's text is neither too uniform nor too unlikely; 0 = greedy. */
  temperatures: z.array(z.number().min(0).max(2)).min(1).default([0, 0.2, 0.4, 0.6, 0.8, 1]),
  /** zlib's ratio of a window's tokens: above it the text repeats itself. Null: never tried again for that. */
  compression_ratio_threshold: z.number().positive().nullable().default(2.4),
  /** Mean log-probability below which a window's text is not believed. Null: always believed. */
  logprob_threshold: z.number().nullable().default(-1),
  /** Probability of "no speech" above which a window that is not believed is left out. Null: never left out. */
  no_speech_threshold: z.number().min(0).nullable().default(0.6),
});
export type WhisperThresholds = z.infer<typeof optionsSchema>;

const count = z.int().positive();
const id = z.int().nonnegative();
const configSchema = z.object({
  num_mel_bins: count,
  d_model: count,
  decoder_layers: count,
  decoder_attention_heads: count,
  max_source_positions: z.literal(1_500),
  max_target_positions: count,
  vocab_size: count,
});
const ids = z
  .array(z.int())
  .nullish()
  .transform((list) => (list ?? []).filter((value) => value >= 0));
const generationSchema = z.object({
  decoder_start_token_id: id,
  eos_token_id: z.union([id, z.array(id).min(1)]).transform((value) => (Array.isArray(value) ? value[0]! : value)),
  no_timestamps_token_id: id,
  suppress_tokens: ids,
  begin_suppress_tokens: ids,
  max_initial_timestamp_index: z.int().nonnegative().nullish(),
  max_length: count.nullish(),
  /** Both are absent in models that know only English. */
  lang_to_id: z.record(z.string(), id).nullish(),
  task_to_id: z.object({ transcribe: id }).nullish(),
});

export interface WhisperConfig {
  readonly melBins: number;
  readonly decoder: { readonly layers: number; readonly heads: number; readonly headSize: number; readonly vocabulary: number };
  /** Tokens of a window with the prompt. */
  readonly maxTokens: number;
  readonly start: number;
  /** Absent: a model for English alone, whose prompt is the start alone. */
  readonly transcribe: number | null;
  /** Language code -> token id; empty for English alone. */
  readonly languages: ReadonlyMap<string, number>;
  readonly noSpeech: number;
  readonly rules: TokenRules;
  readonly thresholds: WhisperThresholds;
  readonly tokenizerPath: string;
  readonly parts: Readonly<Record<WhisperPart, { readonly path: string; readonly names: Pick<ManifestPart, "inputs" | "outputs"> }>>;
}

/** Reads what a Whisper folder says about itself. @throws AppError MANIFEST_INVALID | MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readWhisperConfig(manifest: Manifest, modelDir: string): Promise<WhisperConfig> {
  const options = optionsSchema.safeParse(manifest.options);
  if (!options.success)
    throw new AppError("MANIFEST_INVALID", `model ${manifest.slug}: options of the manifest: ${z.prettifyError(options.error)}`);
  const pathOf = (role: keyof typeof FILES): string => join(modelDir, manifest.files[role] ?? FILES[role]);
  const model = await readJson(pathOf("config"), configSchema);
  const generation = await readJson(pathOf("generation_config"), generationSchema);
  const languages = Object.entries(generation.lang_to_id ?? {}).map(([token, value]) => [token.slice(2, -2), value] as const);
  return {
    melBins: model.num_mel_bins,
    decoder: {
      layers: model.decoder_layers,
      heads: model.decoder_attention_heads,
      headSize: model.d_model / model.decoder_attention_heads,
      vocabulary: model.vocab_size,
    },
    maxTokens: Math.min(model.max_target_positions, generation.max_length ?? model.max_target_positions),
    start: generation.decoder_start_token_id,
    transcribe: generation.task_to_id?.transcribe ?? null,
    languages: new Map(languages),
    noSpeech: generation.no_timestamps_token_id - 1,
    rules: {
      end: generation.eos_token_id,
      noTimestamps: generation.no_timestamps_token_id,
      suppressed: generation.suppress_tokens,
      suppressedFirst: generation.begin_suppress_tokens,
      maxInitialStamp: generation.max_initial_timestamp_index ?? null,
    },
    thresholds: options.data,
    tokenizerPath: pathOf("tokenizer"),
    parts: partPaths(manifest, modelDir),
  };
}

function partPaths(manifest: Manifest, modelDir: string): WhisperConfig["parts"] {
  const odd = Object.keys(manifest.parts).find((part) => !Object.hasOwn(PARTS, part));
  if (odd !== undefined) {
    const expected = Object.keys(PARTS).join(", ");
    throw new AppError("MANIFEST_INVALID", `model ${manifest.slug}: part ${odd} is unknown to family whisper, expected ${expected}`);
  }
  const part = (name: WhisperPart): WhisperConfig["parts"][WhisperPart] => {
    const { file = PARTS[name], inputs = {}, outputs = {} } = manifest.parts[name] ?? {};
    return { path: join(modelDir, file), names: { inputs, outputs } };
  };
  return { encoder: part("encoder"), decoder: part("decoder") };
}

async function readJson<T extends z.ZodType>(path: string, schema: T): Promise<z.infer<T>> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(path, "utf8"));
  } catch (thrown) {
    const why = isMissing(thrown) ? "does not exist" : `cannot be read: ${(thrown as Error).message}`;
    throw new AppError("MODEL_CORRUPT", `${path} ${why}; it comes with the exported model`, { cause: thrown });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AppError("MODEL_UNSUPPORTED", `${path}: not what a Whisper model has: ${z.prettifyError(parsed.error)}`);
}
