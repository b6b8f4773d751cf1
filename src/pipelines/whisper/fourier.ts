/**
 * Power spectra of real frames by a mixed-radix Fourier transform: 400 samples, Whisper's window, are no power of two.
 *
 * Two real samples make one complex one, so that a transform of half the length does (Numerical Recipes, section 12.3). It is Stockham's
 * (Van Loan, Computational Frameworks for the FFT, section 1.7): sorted output without a permutation.
 */
export class PowerSpectrum {
  /** Samples of a frame. */
  readonly length: number;
  /** Values of a spectrum: `length / 2 + 1`. */
  readonly bins: number;
  readonly #stages: readonly Stage[];
  /** `exp(-2 pi i k / length)` for k < length / 2. */
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;
  #re: Float64Array;
  #im: Float64Array;
  #nextRe: Float64Array;
  #nextIm: Float64Array;

  /** `length` must be even. */
  constructor(length: number) {
    const half = length / 2;
    if (!Number.isInteger(half)) throw new TypeError(`a spectrum of ${length} samples was asked for, which is odd: this is a bug`);
    this.length = length;
    this.bins = half + 1;
    this.#stages = planStages(half);
    this.#cos = Float64Array.from({ length: half }, (_, k) => Math.cos((2 * Math.PI * k) / length));
    this.#sin = Float64Array.from({ length: half }, (_, k) => -Math.sin((2 * Math.PI * k) / length));
    this.#re = new Float64Array(half);
    this.#im = new Float64Array(half);
    this.#nextRe = new Float64Array(half);
    this.#nextIm = new Float64Array(half);
  }

  /** `|X[k]|^2` of `frame` (`length` values) into `power` (`bins` values). */
  write(frame: Float64Array, power: Float64Array): void {
    const half = this.length / 2;
    for (let i = 0; i < half; i++) {
      this.#re[i] = frame[2 * i]!;
      this.#im[i] = frame[2 * i + 1]!;
    }
    for (const stage of this.#stages) this.#runStage(stage);
    const re = this.#re;
    const im = this.#im;
    power[0] = (re[0]! + im[0]!) ** 2;
    power[half] = (re[0]! - im[0]!) ** 2;
    for (let k = 1; k < half; k++) {
      // Even samples are (Z[k] + Z*[n-k]) / 2, odd ones (Z[k] - Z*[n-k]) / 2i, turned by k.
      const evenRe = (re[k]! + re[half - k]!) / 2;
      const evenIm = (im[k]! - im[half - k]!) / 2;
      const oddRe = (im[k]! + im[half - k]!) / 2;
      const oddIm = (re[half - k]! - re[k]!) / 2;
      const cos = this.#cos[k]!;
      const sin = this.#sin[k]!;
      power[k] = (evenRe + oddRe * cos - oddIm * sin) ** 2 + (evenIm + oddRe * sin + oddIm * cos) ** 2;
    }
  }

  /** Joins `radix` transforms of length `done` into one, for each of the `columns` that are left. */
  #runStage({ radix, done, columns, cos, sin }: Stage): void {
    const re = this.#re;
    const im = this.#im;
    const toRe = this.#nextRe.fill(0);
    const toIm = this.#nextIm.fill(0);
    for (let row = 0; row < done * radix; row++) {
      const from = (row % done) * columns * radix;
      for (let part = 0; part < radix; part++) {
        const c = cos[row * radix + part]!;
        const s = sin[row * radix + part]!;
        let at = from + part * columns;
        for (let to = row * columns; to < (row + 1) * columns; to++, at++) {
          toRe[to]! += re[at]! * c - im[at]! * s;
          toIm[to]! += re[at]! * s + im[at]! * c;
        }
      }
    }
    [this.#re, this.#nextRe] = [toRe, re];
    [this.#im, this.#nextIm] = [toIm, im];
  }
}

interface Stage {
  readonly radix: number;
  readonly done: number;
  readonly columns: number;
  /** `exp(-2 pi i row part / (done radix))` at `[row * radix + part]`. */
  readonly cos: Float64Array;
  readonly sin: Float64Array;
}

function planStages(length: number): readonly Stage[] {
  const stages: Stage[] = [];
  for (let done = 1; done < length;) {
    const radix = smallestFactor(length / done);
    const size = done * radix;
    const angle = (i: number): number => (2 * Math.PI * ((Math.floor(i / radix) * (i % radix)) % size)) / size;
    const cos = Float64Array.from({ length: size * radix }, (_, i) => Math.cos(angle(i)));
    const sin = Float64Array.from({ length: size * radix }, (_, i) => -Math.sin(angle(i)));
    stages.push({ radix, done, columns: length / size, cos, sin });
    done = size;
  }
  return stages;
}

function smallestFactor(value: number): number {
  for (let factor = 2; factor * factor <= value; factor++) if (value % factor === 0) return factor;
  return value;
}
