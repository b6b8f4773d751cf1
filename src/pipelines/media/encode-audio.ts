import { AppError } from "../../protocol/error.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import { PipedFile } from "./piped-file.ts";

/** Codec arguments, ending and content type by the format that requests name. */
const FORMATS = {
  mp3: { codec: ["-c:a", "libmp3lame", "-q:a", "2", "-f", "mp3"], contentType: "audio/mpeg" },
  wav: { codec: ["-c:a", "pcm_s16le", "-f", "wav"], contentType: "audio/wav" },
  flac: { codec: ["-c:a", "flac", "-sample_fmt", "s16", "-f", "flac"], contentType: "audio/flac" },
  // Vorbis and not Opus: it takes every sample rate.
  ogg: { codec: ["-c:a", "libvorbis", "-q:a", "5", "-f", "ogg"], contentType: "audio/ogg" },
} as const;

export type AudioFormat = keyof typeof FORMATS;

export function isAudioFormat(value: unknown): value is AudioFormat {
  return typeof value === "string" && Object.hasOwn(FORMATS, value);
}

export interface EncodeAudioOptions {
  /** Existing folder; `audio.<format>` appears in it complete or not at all. */
  readonly outDir: string;
  readonly format: AudioFormat;
  /** Samples a second of the chunks. */
  readonly sourceRate: number;
  /** Samples a second of the file. */
  readonly sampleRate: number;
  readonly channels: number;
  /** How much faster than it came, at the same pitch; 1 by default. */
  readonly tempo?: number;
  readonly signal?: AbortSignal;
}

export interface EncodedAudio {
  readonly file: SpoolFile;
  /** Of the source, before the tempo. */
  readonly seconds: number;
}

/**
 * Writes sound as it comes: no more than a chunk of it is in memory. `chunks` are interleaved float32 samples, -1..1.
 * @throws AppError BAD_OUTPUT when there are no samples or one is not finite, or when ffmpeg fails; SPOOL_FULL; MODEL_UNSUPPORTED without
 * ffmpeg; whatever `chunks` throws
 */
export async function encodeAudio(chunks: AsyncIterable<Float32Array>, options: EncodeAudioOptions): Promise<EncodedAudio> {
  const { format, sourceRate, sampleRate, channels, outDir, signal } = options;
  const { codec, contentType } = FORMATS[format];
  const name = `audio.${format}`;
  const input = ["-f", "f32le", "-ar", String(sourceRate), "-ac", String(channels), "-i", "pipe:0"];
  const args = [...input, ...tempoOf(options), "-ar", String(sampleRate), "-map_metadata", "-1", ...codec];
  await using file = new PipedFile({ outDir, name, contentType, args, ...(signal !== undefined && { signal }) });
  let samples = 0;
  for await (const chunk of chunks) {
    if (!chunk.every(Number.isFinite)) throw new AppError("BAD_OUTPUT", `sample ${samples} or later of ${name} is not finite`);
    samples += chunk.length;
    await file.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength));
  }
  if (samples === 0) throw new AppError("BAD_OUTPUT", `${name} would have no samples`);
  return { file: await file.finish(), seconds: samples / channels / sourceRate };
}

function tempoOf({ tempo = 1 }: EncodeAudioOptions): readonly string[] {
  return tempo === 1 ? [] : ["-af", `atempo=${tempo}`];
}
