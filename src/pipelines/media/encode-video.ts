import sharp from "sharp";
import type { FileRole, SpoolFile } from "../../protocol/result.ts";
import { ClipAnimation } from "./clip-animation.ts";
import { LIBX264, type H264Encoder } from "./h264-encoder.ts";
import { PipedFile } from "./piped-file.ts";
import { allWritten, writeComplete } from "./write-complete.ts";

const NAME = "video.mp4";

export interface VideoOptions {
  /** Existing folder; the files appear in it complete or not at all. */
  readonly outDir: string;
  /** Pixels, both even: H.264 in yuv420p has one colour for 2 x 2 of them. */
  readonly width: number;
  readonly height: number;
  readonly fps: number;
  /** Frames that will come. */
  readonly frames: number;
  readonly encoder?: H264Encoder;
  /** Kept in the file's `comment`. */
  readonly comment?: string;
}

/**
 * Starts a clip: `video.mp4` (main; H.264, yuv420p, BT.709, limited range, index at the front), `poster.jpg` (the first frame) and
 * `video.webp` (animated; fewer and smaller frames), written as frames come. Disposing of an unfinished one leaves no file.
 * @throws AppError MODEL_UNSUPPORTED without ffmpeg; RangeError for an odd size
 */
export function openVideo(options: VideoOptions): VideoWriter {
  const { width, height } = options;
  if (width % 2 !== 0 || height % 2 !== 0)
    throw new RangeError(`the video's size is ${width} x ${height}, expected even numbers of pixels: this is a bug`);
  return new VideoWriter(options);
}

export class VideoWriter implements AsyncDisposable {
  readonly #options: VideoOptions;
  readonly #file: PipedFile;
  readonly #animation: ClipAnimation;
  #poster: Promise<Buffer> | null = null;
  #written = 0;

  constructor(options: VideoOptions) {
    const { encoder = LIBX264, outDir } = options;
    this.#options = options;
    this.#animation = new ClipAnimation(options);
    this.#file = new PipedFile({
      outDir,
      name: NAME,
      contentType: "video/mp4",
      encoder: encoder.name,
      args: ffmpegArgs(options, encoder),
      limits: { memoryBytes: encoder.memoryBytes },
    });
  }

  /** Takes one frame, `[height, width, 3]`; waits while the encoder is behind. The memory is its own from now on. */
  async write(rgb: Uint8Array): Promise<void> {
    const { width, height, frames } = this.#options;
    if (rgb.length !== width * height * 3 || this.#written >= frames) {
      throw new RangeError(`frame ${this.#written} of ${frames} has ${rgb.length} bytes, expected ${width} x ${height} x 3: this is a bug`);
    }
    if (this.#written === 0)
      this.#poster = handled(
        sharp(rgb, { raw: { width, height, channels: 3 } })
          .jpeg({ quality: 90 })
          .toBuffer(),
      );
    await this.#animation.take(rgb, this.#written);
    this.#written += 1;
    await this.#file.write(rgb);
  }

  /** Waits for the encoder and completes all files. @throws AppError BAD_OUTPUT, SPOOL_FULL */
  async finish(): Promise<readonly SpoolFile[]> {
    const { outDir, frames } = this.#options;
    if (this.#written !== frames || this.#poster === null)
      throw new RangeError(`${this.#written} of ${frames} frames were written: this is a bug`);
    const video = await this.#file.finish();
    const alternative = async (name: string, contentType: string, bytes: Promise<Buffer>): Promise<SpoolFile> => ({
      name,
      role: "alt" satisfies FileRole,
      contentType,
      ...(await writeComplete(outDir, name, await bytes)),
    });
    const others = [
      alternative("poster.jpg", "image/jpeg", this.#poster),
      alternative("video.webp", "image/webp", this.#animation.encode()),
    ];
    return [video, ...(await allWritten(others))];
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#file[Symbol.asyncDispose]();
  }
}

function ffmpegArgs({ width, height, fps, comment }: VideoOptions, encoder: H264Encoder): readonly string[] {
  const source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", `${width}x${height}`, "-r", String(fps), "-i", "pipe:0"];
  // Said and done: without the scale filter's matrix the pixels would be BT.601 under a BT.709 label.
  const colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"];
  const labels = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"];
  const texts = comment === undefined ? [] : ["-metadata", `comment=${comment}`];
  return [...source, ...encoder.args, ...colours, ...labels, ...texts, "-movflags", "+faststart", "-f", "mp4"];
}

/** Told when it is awaited, and not before. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}
