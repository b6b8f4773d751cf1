import { LogMelStream, scaleLogMel, SILENT_LOG_MEL } from "./log-mel.ts";

/** 30 s: what the encoder takes at once. */
export const WINDOW_FRAMES = 3_000;

/** 16-bit mono samples at 16 kHz, in pieces of any size. */
export type Samples = AsyncIterable<Int16Array>;

/**
 * Windows of log-mel features over a stream that is read only as far as needed: memory is one window, however long the audio is.
 * Windows may overlap but never go back. Disposing closes the stream, and with it the program that it comes from.
 */
export class FeatureReader implements AsyncDisposable {
  readonly #mel: LogMelStream;
  readonly #pieces: AsyncIterator<Int16Array>;
  readonly #loudest: number;
  /** Frames not yet passed; the first of them is frame `#first` of the audio. */
  #frames: Float32Array[] = [];
  #first = 0;
  #ended = false;

  /** `loudest` is the largest log-mel value of all audio, from `surveyAudio`. */
  constructor(options: { readonly samples: Samples; readonly bins: number; readonly loudest: number }) {
    this.#mel = new LogMelStream(options.bins);
    this.#pieces = options.samples[Symbol.asyncIterator]();
    this.#loudest = options.loudest;
  }

  /** Features `[bins, 3000]` of the 30 s from frame `start` on; behind the end of the audio there is silence. */
  async read(start: number): Promise<Float32Array> {
    if (start < this.#first) throw new TypeError(`frame ${start} was asked for after frame ${this.#first}: this is a bug`);
    while (!this.#ended && this.#first + this.#frames.length < start + WINDOW_FRAMES) {
      await this.#pull();
      this.#dropBefore(start);
    }
    this.#dropBefore(start);
    const { bins } = this.#mel;
    const features = new Float32Array(bins * WINDOW_FRAMES).fill(scaleLogMel(SILENT_LOG_MEL, this.#loudest));
    for (const [column, frame] of this.#frames.slice(0, WINDOW_FRAMES).entries()) {
      for (let bin = 0; bin < bins; bin++) features[bin * WINDOW_FRAMES + column] = scaleLogMel(frame[bin]!, this.#loudest);
    }
    return features;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    await this.#pieces.return?.();
  }

  async #pull(): Promise<void> {
    const next = await this.#pieces.next();
    const keep = (frame: Float64Array): void => void this.#frames.push(Float32Array.from(frame));
    if (next.done === true) {
      this.#ended = true;
      this.#mel.finish(keep);
    } else this.#mel.push(next.value, keep);
  }

  #dropBefore(start: number): void {
    const count = Math.min(start - this.#first, this.#frames.length);
    if (count <= 0) return;
    this.#frames = this.#frames.slice(count);
    this.#first += count;
  }
}
