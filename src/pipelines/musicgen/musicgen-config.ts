import { z } from "zod";
import { readModelJson } from "../model-folder.ts";

const configSchema = z.object({
  audio_encoder: z.object({
    sampling_rate: z.int().positive(),
    audio_channels: z.literal(1),
    upsampling_ratios: z.array(z.int().positive()).min(1),
  }),
  decoder: z.object({
    vocab_size: z.int().positive(),
    num_codebooks: z.int().min(1).max(16),
    num_hidden_layers: z.int().positive(),
    num_attention_heads: z.int().positive(),
    hidden_size: z.int().positive(),
    pad_token_id: z.int().nonnegative(),
    audio_channels: z.literal(1).default(1),
  }),
});

export interface MusicgenConfig {
  /** Samples a second. */
  readonly sampleRate: number;
  /** Frames of codes a second: 50. */
  readonly frameRate: number;
  /** Codes of one codebook. */
  readonly codes: number;
  readonly books: number;
  readonly layers: number;
  readonly heads: number;
  readonly headSize: number;
  /** Stands where a codebook has no code; also the start. */
  readonly pad: number;
}

/** Reads a MusicGen folder's config.json. @throws AppError MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readMusicgenConfig(path: string): Promise<MusicgenConfig> {
  const { audio_encoder: audio, decoder } = await readModelJson(path, configSchema, "the configuration of a mono MusicGen");
  const samplesPerFrame = audio.upsampling_ratios.reduce((product, ratio) => product * ratio, 1);
  return {
    sampleRate: audio.sampling_rate,
    frameRate: audio.sampling_rate / samplesPerFrame,
    codes: decoder.vocab_size,
    books: decoder.num_codebooks,
    layers: decoder.num_hidden_layers,
    heads: decoder.num_attention_heads,
    headSize: decoder.hidden_size / decoder.num_attention_heads,
    pad: decoder.pad_token_id,
  };
}
