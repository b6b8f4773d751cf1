import { PowerSpectrum } from "./fourier.ts";
import { melFilters, type MelFilter } from "./mel-filters.ts";

/** What Whisper listens to: 16 kHz, frames of 25 ms every 10 ms. */
export const SAMPLE_RATE = 16_000;
export const HOP = 160;
const LENGTH = 400;
const HALF = LENGTH / 2;
/** log10 of the smallest power that counts: what silence has. */
export const SILENT_LOG_MEL = -10;
const MIN_POWER = 1e-10;

/**
 * Log-mel spectra of a stream of samples, frame by frame, as OpenAI's `log_mel_spectrogram` and transformers' WhisperFeatureExtractor make
 * them of the whole: frame t is centred at sample 160 t, the samples before the first are those after it mirrored, those behind the last
 * are silence. Values are `log10(max(power, 1e-10))`: clamping and scaling need the loudest value of all audio (`scaleLogMel`).
 */
export class LogMelStream {
  readonly bins: number;
  readonly #spectrum = new PowerSpectrum(LENGTH);
  readonly #filters: readonly MelFilter[];
  readonly #window = Float64Array.from({ length: LENGTH }, (_, i) => (1 - Math.cos((2 * Math.PI * i) / LENGTH)) / 2);
  readonly #frame = new Float64Array(LENGTH);
  readonly #power: Float64Array;
  /** Samples not used up, scaled to -1..1; `#pending[0]` is sample `#origin` of the stream. */
  #pending = new Float64Array(0);
  #origin = 0;
  #samples = 0;
  #frames = 0;

  constructor(bins: number) {
    this.bins = bins;
    this.#power = new Float64Array(this.#spectrum.bins);
    this.#filters = melFilters({ count: bins, bins: this.#spectrum.bins, sampleRate: SAMPLE_RATE });
  }

  /** Samples that came so far. */
  get samples(): number {
    return this.#samples;
  }

  /** Whole hops of the samples so far: the frames that count as content. */
  get contentFrames(): number {
    return Math.floor(this.#samples / HOP);
  }

  /** Takes 16-bit samples; calls `onFrame` for each frame that they complete, with values that it must copy. */
  push(samples: Int16Array, onFrame: (logMel: Float64Array) => void): void {
    const joined = new Float64Array(this.#pending.length + samples.length);
    joined.set(this.#pending);
    for (let i = 0; i < samples.length; i++) joined[this.#pending.length + i] = samples[i]! / 32_768;
    this.#pending = joined;
    this.#samples += samples.length;
    // Mirroring needs the first samples; so the first frames wait for them.
    while (this.#frames * HOP + HALF < this.#samples) this.#emit(onFrame);
    this.#forget();
  }

  /** After the last sample: the frames that still hear some of the audio. All later ones are silent. */
  finish(onFrame: (logMel: Float64Array) => void): void {
    while (this.#frames * HOP - HALF < this.#samples) this.#emit(onFrame);
  }

  #emit(onFrame: (logMel: Float64Array) => void): void {
    const start = this.#frames * HOP - HALF;
    for (let i = 0; i < LENGTH; i++) this.#frame[i] = (this.#pending[Math.abs(start + i) - this.#origin] ?? 0) * this.#window[i]!;
    this.#spectrum.write(this.#frame, this.#power);
    this.#frames += 1;
    onFrame(Float64Array.from(this.#filters, (filter) => Math.log10(Math.max(this.#energy(filter), MIN_POWER))));
  }

  #energy({ first, weights }: MelFilter): number {
    let sum = 0;
    for (let i = 0; i < weights.length; i++) sum += weights[i]! * this.#power[first + i]!;
    return sum;
  }

  /** Drops what no later frame reaches; while the first ones are made, the mirrored samples stay. */
  #forget(): void {
    const needed = Math.max(0, this.#frames * HOP - HALF);
    if (needed <= this.#origin) return;
    this.#pending = this.#pending.slice(needed - this.#origin);
    this.#origin = needed;
  }
}

/** One value as the model wants it: within 8 (80 dB) of `loudest`, the largest of all audio, and about -1..1. */
export function scaleLogMel(value: number, loudest: number): number {
  return (Math.max(value, loudest - 8) + 4) / 4;
}
