import { deflateSync } from "node:zlib";
import { isOnDevice } from "../backend.ts";
import type { MergedDecoder } from "../graph/merged-decoder.ts";
import type { AudioEncoder } from "./audio-encoder.ts";
import type { AudioSurvey } from "./survey-audio.ts";
import { decodeWindow, detectLanguage, type WindowText } from "./decode-window.ts";
import { WINDOW_FRAMES, type FeatureReader } from "./feature-reader.ts";
import { splitWindow, type Segment } from "./segments.ts";
import type { WhisperConfig } from "./whisper-config.ts";

export interface TranscribeOptions {
  readonly encoder: AudioEncoder;
  readonly decoder: MergedDecoder;
  readonly config: WhisperConfig;
  readonly survey: AudioSurvey;
  readonly features: FeatureReader;
  /** Null: what the model hears in the first window that is not silent. */
  readonly language: string | null;
  readonly random: () => number;
  /** Called before each native run. May throw to stop. */
  readonly onStep: (stage: "encode" | "language" | "decode") => void;
}

export interface TranscribedWindow {
  /** First frame of the window, and the one after the last that is done with. */
  readonly startFrame: number;
  readonly endFrame: number;
  /** Null when nobody has spoken so far. */
  readonly language: string | null;
  readonly segments: readonly Segment[];
  /** Of the text that was kept or left out; null where all was silent. */
  readonly text: WindowText | null;
}

/**
 * Long-form transcription with a sliding window of 30 s: each window is decoded with time stamps, and the next one begins at the last of
 * them. Silent windows are passed by, those that the model itself takes for no speech are left out, those whose text repeats itself or is
 * unlikely are drawn again at a higher temperature.
 * Source: Whisper paper, sections 3.8 and 4.5; OpenAI's transcribe.py, without the text of the window before as a prompt, which is
 * transformers' default and keeps a slip from spreading.
 */
export async function* transcribe(options: TranscribeOptions): AsyncGenerator<TranscribedWindow> {
  const { config, survey } = options;
  let language = options.language;
  for (let startFrame = 0; startFrame < survey.contentFrames;) {
    const frames = Math.min(WINDOW_FRAMES, survey.contentFrames - startFrame);
    if (!survey.hasSound(startFrame, startFrame + frames)) {
      const endFrame = startFrame + frames;
      yield { startFrame, endFrame, language, segments: [], text: null };
      startFrame = endFrame;
      continue;
    }
    const heard = await hear(options, startFrame, language);
    ({ language } = heard);
    const { text, isSpeech } = heard;
    const firstStamp = config.rules.noTimestamps + 1;
    const split = isSpeech ? splitWindow({ tokens: text.tokens, firstStamp, startFrame, frames }) : { segments: [], advance: frames };
    const endFrame = startFrame + split.advance;
    yield { startFrame, endFrame: Math.min(endFrame, survey.contentFrames), language, segments: split.segments, text };
    startFrame = endFrame;
  }
}

interface HeardWindow {
  readonly language: string | null;
  readonly text: WindowText;
  readonly isSpeech: boolean;
}

/** What the model makes of one window. */
async function hear(options: TranscribeOptions, startFrame: number, known: string | null): Promise<HeardWindow> {
  const { encoder, decoder, config, features, onStep } = options;
  const samples = await features.read(startFrame);
  onStep("encode");
  const hidden = await encoder.encode(samples, decoder.hiddenType);
  using _ = isOnDevice(hidden) ? hidden : null;
  let language = known;
  if (language === null && config.languages.size > 0) {
    onStep("language");
    language = await detectLanguage(decoder, config, hidden);
  }
  return { language, ...(await decodeWithFallback(options, { hidden, language })) };
}

type Window = Pick<Parameters<typeof decodeWindow>[0], "hidden"> & { readonly language: string | null };

async function decodeWithFallback(
  { config, decoder, random, onStep }: TranscribeOptions,
  { hidden, language }: Window,
): Promise<{ readonly text: WindowText; readonly isSpeech: boolean }> {
  const { temperatures, no_speech_threshold: noSpeech } = config.thresholds;
  const prompt = promptOf(config, language);
  let text: WindowText = { tokens: [], meanLogprob: 0, noSpeech: 0 };
  for (const temperature of temperatures) {
    text = await decodeWindow({ decoder, config, hidden, prompt, temperature, random, onStep: () => onStep("decode") });
    const unlikely = text.meanLogprob < (config.thresholds.logprob_threshold ?? -Infinity);
    if (unlikely && text.noSpeech > (noSpeech ?? Infinity)) return { text, isSpeech: false };
    const ratio = compressionRatio(text.tokens, config.decoder.vocabulary);
    if (!unlikely && ratio <= (config.thresholds.compression_ratio_threshold ?? Infinity)) break;
  }
  return { text, isSpeech: true };
}

function promptOf({ start, transcribe: task, languages }: WhisperConfig, language: string | null): readonly number[] {
  const id = languages.get(language ?? "");
  return [start, ...(id === undefined ? [] : [id]), ...(task === null ? [] : [task])];
}

/** Bytes of the tokens by bytes of the same after zlib, as in transformers' `_retrieve_compression_ratio`. */
export function compressionRatio(tokens: readonly number[], vocabulary: number): number {
  if (tokens.length === 0) return 0;
  const width = Math.floor(Math.log2(vocabulary) / 8) + 1;
  const bytes = Buffer.alloc(tokens.length * width);
  for (const [i, token] of tokens.entries()) bytes.writeUIntLE(token, i * width, width);
  return bytes.length / deflateSync(bytes).length;
}
