import { createHash } from "node:crypto";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { AppError } from "../../protocol/error.ts";
import type { FileRole, SpoolFile } from "../../protocol/result.ts";
import { insertPngText } from "./png-text.ts";
import type { RgbImage } from "./rgb-image.ts";

export interface EncodeImageOptions {
  /** Existing folder; the files appear in it complete or not at all. */
  readonly outDir: string;
  /** Texts for the PNG, e.g. prompt, seed, steps. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Writes a picture as `image.png` (main), `image.webp` and `image.jpg` (alternatives), at the same time and off the JS thread.
 * PNG level 3 with adaptive filters: half the bytes of sharp's default for the same time (queue-and-io.md, section 6).
 * @throws AppError SPOOL_FULL when the disk is full, INTERNAL for any other failure of the file system
 */
export async function encodeImage(image: RgbImage, options: EncodeImageOptions): Promise<readonly SpoolFile[]> {
  const raw = { width: image.width, height: image.height, channels: 3 } as const;
  const source = (): Sharp => sharp(image.data, { raw });
  const png = async (): Promise<Buffer> =>
    insertPngText(await source().png({ compressionLevel: 3, adaptiveFiltering: true }).toBuffer(), options.metadata);
  const write = async (name: string, role: FileRole, contentType: string, bytes: Promise<Buffer>): Promise<SpoolFile> =>
    writeComplete(options.outDir, name, await bytes).then((file) => ({ name, role, contentType, ...file }));
  return Promise.all([
    write("image.png", "main", "image/png", png()),
    write("image.webp", "alt", "image/webp", source().webp({ quality: 90, effort: 0 }).toBuffer()),
    write("image.jpg", "alt", "image/jpeg", source().jpeg({ quality: 90 }).toBuffer()),
  ]);
}

/** The daemon, not the runner, makes outputs durable (it checks size and sha256 after a crash), so that no fsync is paid here. */
async function writeComplete(dir: string, name: string, bytes: Buffer): Promise<{ sizeBytes: number; sha256: string }> {
  const path = join(dir, name);
  const partial = `${path}.partial`;
  try {
    await writeFile(partial, bytes);
    await rename(partial, path);
  } catch (thrown) {
    const code = (thrown as NodeJS.ErrnoException).code;
    if (code === "ENOSPC" || code === "EDQUOT") {
      throw new AppError("SPOOL_FULL", `no space left for ${path} (${bytes.length} bytes): free space in the spool's file system`, {
        cause: thrown,
      });
    }
    throw new AppError("INTERNAL", `${path} cannot be written: ${(thrown as Error).message}`, { cause: thrown });
  }
  return { sizeBytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}
