import { z } from "zod";
import type { FileRoleOf, PartOf } from "../../core/family-layout.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import type { DecoderSizes } from "../graph/merged-decoder.ts";
import type { GraphFile } from "../graph/open-graphs.ts";
import { fileOf, graphFiles, readModelJson, readOptions } from "../model-folder.ts";
import type { TokenRules } from "./timestamp-rules.ts";

export type WhisperPart = PartOf<"whisper">;
/** For messages about files that are something else. */
const WHISPER = "what a Whisper model has";

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
  readonly decoder: DecoderSizes;
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
  readonly graphs: ReadonlyMap<WhisperPart, GraphFile>;
}

/** Reads what a Whisper folder says about itself. @throws AppError MANIFEST_INVALID | MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readWhisperConfig(manifest: Manifest, modelDir: string): Promise<WhisperConfig> {
  const thresholds = readOptions(manifest, optionsSchema);
  const pathOf = (role: FileRoleOf<"whisper">): string => fileOf<"whisper">(manifest, modelDir, role);
  const model = await readModelJson(pathOf("config"), configSchema, WHISPER);
  const generation = await readModelJson(pathOf("generation_config"), generationSchema, WHISPER);
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
    thresholds,
    tokenizerPath: pathOf("tokenizer"),
    graphs: await graphFiles(manifest, modelDir, "whisper"),
  };
}
