import sharp, { type Sharp } from "sharp";
import type { FileRole, SpoolFile } from "../../protocol/result.ts";
import { insertPngText } from "./png-text.ts";
import type { RgbImage } from "./rgb-image.ts";
import { allWritten, writeComplete } from "./write-complete.ts";

export interface EncodeImageOptions {
  /** Existing folder; the files appear in it complete or not at all. */
  readonly outDir: string;
  /** Texts for the PNG, e.g. prompt, seed, steps. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Writes a picture as `image.png` (main), `image.webp` and `image.jpg` (alternatives), at the same time and off the JS thread.
 * PNG level 3 with adaptive filters: half the bytes of sharp's default for the same time (measured).
 * @throws AppError SPOOL_FULL when the disk is full, INTERNAL for any other failure of the file system
 */
export async function encodeImage(image: RgbImage, options: EncodeImageOptions): Promise<readonly SpoolFile[]> {
  const raw = { width: image.width, height: image.height, channels: 3 } as const;
  const source = (): Sharp => sharp(image.data, { raw });
  const png = async (): Promise<Buffer> =>
    insertPngText(await source().png({ compressionLevel: 3, adaptiveFiltering: true }).toBuffer(), options.metadata);
  const write = async (name: string, role: FileRole, contentType: string, bytes: Promise<Buffer>): Promise<SpoolFile> =>
    writeComplete(options.outDir, name, await bytes).then((file) => ({ name, role, contentType, ...file }));
  return allWritten([
    write("image.png", "main", "image/png", png()),
    write("image.webp", "alt", "image/webp", source().webp({ quality: 90, effort: 0 }).toBuffer()),
    write("image.jpg", "alt", "image/jpeg", source().jpeg({ quality: 90 }).toBuffer()),
  ]);
}
