import { HOP, LogMelStream, SAMPLE_RATE, SILENT_LOG_MEL } from "./log-mel.ts";
import type { Samples } from "./feature-reader.ts";

/** Samples are judged in pieces of 0.1 s: shorter than a word, longer than a click. */
const GATE_SAMPLES = SAMPLE_RATE / 10;
const FRAMES_PER_GATE = GATE_SAMPLES / HOP;

export interface AudioSurvey {
  readonly seconds: number;
  /** Frames of 10 ms. */
  readonly contentFrames: number;
  /** The largest log-mel value of all frames: every window is scaled by it. */
  readonly loudest: number;
  /** Whether anything in these frames is louder than the gate. */
  hasSound(startFrame: number, endFrame: number): boolean;
}

export interface SurveyOptions {
  readonly samples: Samples;
  readonly bins: number;
  /** Root mean square that counts as sound, relative to full scale, e.g. -60. */
  readonly gateDbfs: number;
  /** Called with the seconds so far, after each piece. May throw to stop. */
  readonly onPiece: (seconds: number) => Promise<void>;
}

/**
 * Listens to all audio once: the models were trained on features scaled by the loudest value of the whole recording, which is only known
 * at its end. Keeps one bit per 0.1 s (45 kB for ten hours) and nothing else.
 */
export async function surveyAudio(options: SurveyOptions): Promise<AudioSurvey> {
  const mel = new LogMelStream(options.bins);
  const gate = new EnergyGate(options.gateDbfs);
  let loudest = SILENT_LOG_MEL;
  const onFrame = (frame: Float64Array): void => {
    for (const value of frame) if (value > loudest) loudest = value;
  };
  for await (const piece of options.samples) {
    mel.push(piece, onFrame);
    gate.push(piece);
    await options.onPiece(mel.samples / SAMPLE_RATE);
  }
  mel.finish(onFrame);
  gate.finish();
  return {
    seconds: mel.samples / SAMPLE_RATE,
    contentFrames: mel.contentFrames,
    loudest,
    hasSound: (startFrame, endFrame) => gate.isOpen(Math.floor(startFrame / FRAMES_PER_GATE), Math.ceil(endFrame / FRAMES_PER_GATE)),
  };
}

class EnergyGate {
  readonly #meanSquare: number;
  #bits = new Uint8Array(1_024);
  #count = 0;
  #sum = 0;
  #samples = 0;

  constructor(dbfs: number) {
    this.#meanSquare = 32_768 ** 2 * 10 ** (dbfs / 10);
  }

  push(samples: Int16Array): void {
    for (const sample of samples) {
      this.#sum += sample * sample;
      this.#samples += 1;
      if (this.#samples === GATE_SAMPLES) this.#close();
    }
  }

  finish(): void {
    if (this.#samples > 0) this.#close();
  }

  /** Whether any of the pieces from `start` up to `end` was loud. */
  isOpen(start: number, end: number): boolean {
    for (let piece = start; piece < Math.min(end, this.#count); piece++) {
      if (((this.#bits[piece >> 3]! >> (piece & 7)) & 1) === 1) return true;
    }
    return false;
  }

  #close(): void {
    if (this.#count >> 3 === this.#bits.length) {
      const larger = new Uint8Array(this.#bits.length * 2);
      larger.set(this.#bits);
      this.#bits = larger;
    }
    if (this.#sum / this.#samples > this.#meanSquare) this.#bits[this.#count >> 3]! |= 1 << (this.#count & 7);
    this.#count += 1;
    this.#sum = 0;
    this.#samples = 0;
  }
}
