import type { Feed } from "../backend.ts";
import type { MergedDecoder } from "../graph/merged-decoder.ts";
import { applyTimestampRules, logSumExp } from "./timestamp-rules.ts";
import type { WhisperConfig } from "./whisper-config.ts";

export interface WindowText {
  /** Stamps and text, without prompt and end. */
  readonly tokens: readonly number[];
  /** Mean log-probability of the tokens and the end token, after the timestamp rules. */
  readonly meanLogprob: number;
  /** Probability that the model gives to "no speech" instead of the prompt. */
  readonly noSpeech: number;
}

export interface DecodeWindowOptions {
  readonly decoder: MergedDecoder;
  readonly config: WhisperConfig;
  readonly hidden: Feed;
  /** Begins with the start token. */
  readonly prompt: readonly number[];
  /** 0 takes the likeliest token each time; above, tokens are drawn. */
  readonly temperature: number;
  /** Numbers from 0 to 1, for drawing. */
  readonly random: () => number;
  /** Called before each step. May throw to stop. */
  readonly onStep: () => void;
}

/** Writes the text of one window, token by token. */
export async function decodeWindow(options: DecodeWindowOptions): Promise<WindowText> {
  const { decoder, config, prompt, temperature } = options;
  const { vocabulary } = config.decoder;
  const most = config.maxTokens - prompt.length;
  const tokens: number[] = [];
  let sum = 0;
  options.onStep();
  using decoding = decoder.begin(options.hidden);
  let logits = await decoding.step([prompt]);
  const noSpeech = Math.exp(logits[config.noSpeech]! - logSumExp(logits.subarray(0, vocabulary)));
  for (;;) {
    const last = logits.subarray(-vocabulary);
    applyTimestampRules(last, tokens, config.rules);
    const chosen = temperature === 0 ? argMax(last) : draw(last, temperature, options.random());
    sum += last[chosen]! - logSumExp(last);
    const ended = chosen === config.rules.end;
    if (!ended) tokens.push(chosen);
    if (ended || tokens.length >= most) return { tokens, meanLogprob: sum / (tokens.length + (ended ? 1 : 0)), noSpeech };
    options.onStep();
    logits = await decoding.step([[chosen]]);
  }
}

/** The language that the model hears in a window: the likeliest of its language tokens after the start. */
export async function detectLanguage(decoder: MergedDecoder, config: WhisperConfig, hidden: Feed): Promise<string> {
  using decoding = decoder.begin(hidden);
  const logits = await decoding.step([[config.start]]);
  let best: readonly [string, number] | null = null;
  for (const [code, id] of config.languages) if (best === null || logits[id]! > best[1]) best = [code, logits[id]!];
  return best?.[0] ?? "en";
}

export function argMax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** The id at which the probabilities, added up, exceed `random`. */
export function draw(logits: Float32Array, temperature: number, random: number): number {
  const scaled = logits.map((value) => value / temperature);
  const total = logSumExp(scaled);
  let left = random;
  let last = 0;
  for (let id = 0; id < scaled.length; id++) {
    const probability = Math.exp(scaled[id]! - total);
    if (probability === 0) continue;
    last = id;
    left -= probability;
    if (left < 0) break;
  }
  return last;
}
