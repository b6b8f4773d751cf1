import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { sha256File } from "../../lib/sha256-file.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import type { ProgramRun } from "../helper-program.ts";
import { openFfmpeg, type FfmpegOptions } from "./ffmpeg.ts";

export interface PipedFileOptions extends Pick<SpoolFile, "name" | "contentType">, Pick<FfmpegOptions, "limits" | "signal"> {
  /** Existing folder; the file appears in it complete or not at all. */
  readonly outDir: string;
  /** What makes it, where messages should name that: `libx264`. */
  readonly encoder?: string;
  /** Everything but the path of the file, which comes last. The source is `pipe:0`. */
  readonly args: readonly string[];
}

/** A main output that ffmpeg makes of what is written into it. Disposing of an unfinished one ends ffmpeg and leaves no file. */
export class PipedFile implements AsyncDisposable {
  readonly #options: PipedFileOptions;
  readonly #path: string;
  readonly #partial: string;
  readonly #ffmpeg: ProgramRun;

  /** @throws AppError MODEL_UNSUPPORTED without ffmpeg */
  constructor(options: PipedFileOptions) {
    const { name, outDir, encoder, args, limits, signal } = options;
    this.#options = options;
    this.#path = join(outDir, name);
    this.#partial = `${this.#path}.partial`;
    this.#ffmpeg = openFfmpeg({
      what: `writing ${name}${encoder === undefined ? "" : ` with ${encoder}`}`,
      // Without it ffmpeg 5.1 ends well when the disk is full at the file's end, and the file is cut.
      args: ["-xerror", ...args, this.#partial],
      failure: "BAD_OUTPUT",
      ...(limits !== undefined && { limits }),
      ...(signal !== undefined && { signal }),
    });
  }

  /** Waits while the encoder is behind. @throws AppError BAD_OUTPUT | SPOOL_FULL | INTERNAL, at once when the encoder ends early */
  write(bytes: Uint8Array): Promise<void> {
    return this.#ffmpeg.write(bytes);
  }

  /** Waits for the encoder; then the file is there. @throws AppError as `write` */
  async finish(): Promise<SpoolFile> {
    await this.#ffmpeg.finish();
    await rename(this.#partial, this.#path);
    const { name, contentType } = this.#options;
    return { name, role: "main", contentType, ...(await sha256File(this.#path)) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ffmpeg[Symbol.asyncDispose]();
    await rm(this.#partial, { force: true });
  }
}
