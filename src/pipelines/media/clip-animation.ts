import sharp from "sharp";

const MAX_FRAMES = 40;
const MAX_SIDE = 512;

export interface ClipFacts {
  /** Pixels. */
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  /** Frames that will come. */
  readonly frames: number;
}

/** A clip as an animated WebP of every n-th frame, made small at once: what is kept does not grow with the clip. */
export class ClipAnimation {
  readonly #options: ClipFacts;
  readonly #stride: number;
  readonly #width: number;
  readonly #height: number;
  readonly #frames: Buffer[] = [];

  constructor(options: ClipFacts) {
    const { width, height, frames } = options;
    const scale = Math.min(1, MAX_SIDE / Math.max(width, height));
    this.#options = options;
    this.#stride = Math.ceil(frames / MAX_FRAMES);
    this.#width = Math.max(1, Math.round(width * scale));
    this.#height = Math.max(1, Math.round(height * scale));
  }

  /** Looks at frame `index`, `[height, width, 3]`; done with its memory when it settles. */
  async take(rgb: Uint8Array, index: number): Promise<void> {
    if (index % this.#stride !== 0) return;
    const { width, height } = this.#options;
    const image = sharp(rgb, { raw: { width, height, channels: 3 } });
    this.#frames.push(await image.resize(this.#width, this.#height, { fit: "fill" }).raw().toBuffer());
  }

  /** The animation of what was taken, as long as the clip. */
  encode(): Promise<Buffer> {
    const { fps } = this.#options;
    const count = this.#frames.length;
    const raw = { width: this.#width, height: this.#height * count, channels: 3, pageHeight: this.#height } as const;
    const delay = Array.from({ length: count }, () => Math.round((this.#stride * 1000) / fps));
    return sharp(Buffer.concat(this.#frames), { raw }).webp({ quality: 80, effort: 0, delay, loop: 0 }).toBuffer();
  }
}
