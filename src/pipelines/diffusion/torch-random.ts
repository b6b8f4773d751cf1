/**
 * The random numbers of `torch.Generator("cpu").manual_seed(seed)` and `torch.randn(..., dtype=float32)`, so that a seed gives the same
 * noise here as in diffusers. Equal to torch on CPUs with AVX2 within 2.4e-7, 84 % of the values to the bit (its vectorised log, sin and cos differ in the last one).
 *
 * Sources: PyTorch ATen/core/MT19937RNGEngine.h, native/cpu/DistributionTemplates.h (normal_fill), core/DistributionsHelper.h,
 * core/TransformationHelper.h. Only the low 32 bits of a seed count, as in torch.
 */
const WORDS = 624;
const SHIFT = 397;
const TWO_PI = 2 * Math.PI;
/** The vectorised path multiplies floats; with the double constant, single values are off by 1e-6. */
const TWO_PI_FLOAT = Math.fround(TWO_PI);

export class TorchRandom {
  readonly #words = new Uint32Array(WORDS);
  #left = 1;
  #next = 0;
  /** The second value of the last Box-Muller pair of a small draw; torch keeps it in the generator, across calls. */
  #cachedNormal: number | null = null;

  /** @param seed integer, 0 to 2^53-1; higher bits than the low 32 are ignored */
  constructor(seed: number) {
    if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`seed is ${seed}, expected an integer from 0 to 2^53-1`);
    const words = this.#words;
    words[0] = seed % 2 ** 32;
    for (let j = 1; j < WORDS; j++) {
      const before = words[j - 1]!;
      words[j] = Math.imul(1812433253, before ^ (before >>> 30)) + j;
    }
  }

  /** The next raw 32 bits, 0..2^32-1. */
  uint32(): number {
    if (--this.#left === 0) this.#regenerate();
    let y = this.#words[this.#next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    y ^= y >>> 18;
    return y >>> 0;
  }

  /** `torch.randn(count)`, float32, contiguous. A shape with more dimensions is the same draw, row-major. */
  randn(count: number): Float32Array<ArrayBuffer> {
    const values = new Float32Array(count);
    if (count >= 16) this.#fillLarge(values);
    else for (let i = 0; i < count; i++) values[i] = this.#nextNormal();
    return values;
  }

  /** `torch.empty(count).exponential_()`, float32, on torch's CPU build: equal to the bit in 163,840 values of four seeds. */
  exponential(count: number): Float32Array<ArrayBuffer> {
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = -Math.log1p(-this.#uniform53());
    return values;
  }

  #regenerate(): void {
    const words = this.#words;
    for (let j = 0; j < WORDS; j++) {
      const mixed = (words[j]! & 0x80000000) | (words[(j + 1) % WORDS]! & 0x7fffffff);
      words[j] = words[(j + SHIFT) % WORDS]! ^ (mixed >>> 1) ^ (mixed & 1 ? 0x9908b0df : 0);
    }
    this.#left = WORDS;
    this.#next = 0;
  }

  #uniform24(): number {
    return (this.uint32() & 0xffffff) / 2 ** 24;
  }

  #uniform53(): number {
    const high = this.uint32();
    const low = this.uint32();
    return ((high & 0x1fffff) * 2 ** 32 + low) / 2 ** 53;
  }

  /** All uniforms first, then blocks of 16 in place; a ragged tail redraws the last 16 values. */
  #fillLarge(values: Float32Array): void {
    const { length } = values;
    for (let i = 0; i < length; i++) values[i] = this.#uniform24();
    for (let i = 0; i < length - 15; i += 16) boxMuller16(values, i);
    if (length % 16 === 0) return;
    for (let i = length - 16; i < length; i++) values[i] = this.#uniform24();
    boxMuller16(values, length - 16);
  }

  /** The path of draws under 16 values, in double precision. */
  #nextNormal(): number {
    if (this.#cachedNormal !== null) {
      const cached = this.#cachedNormal;
      this.#cachedNormal = null;
      return cached;
    }
    const theta = TWO_PI * this.#uniform53();
    const radius = Math.sqrt(-2 * Math.log1p(-this.#uniform53()));
    this.#cachedNormal = radius * Math.sin(theta);
    return radius * Math.cos(theta);
  }
}

function boxMuller16(values: Float32Array, at: number): void {
  for (let j = at; j < at + 8; j++) {
    const radius = Math.fround(Math.sqrt(-2 * Math.fround(Math.log(1 - values[j]!))));
    const theta = Math.fround(TWO_PI_FLOAT * values[j + 8]!);
    values[j] = radius * Math.fround(Math.cos(theta));
    values[j + 8] = radius * Math.fround(Math.sin(theta));
  }
}
