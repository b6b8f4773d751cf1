import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import sharp from "sharp";
import { AppError } from "../../protocol/error.ts";
import { decodeBmp, isBmp, readBmpHeader } from "./decode-bmp.ts";
import type { RgbImage } from "./rgb-image.ts";

/** Shortest and longest side of an input picture, pixels: what the public API promises to take. */
export const MIN_IMAGE_SIDE = 64;
export const MAX_IMAGE_SIDE = 5000;
const FORMATS: ReadonlySet<string> = new Set(["jpeg", "png", "gif", "webp"]);
const EXPECTED = "expected a jpg, png, gif, bmp or webp picture";

/**
 * Decodes an input picture of at most 5000 x 5000 pixels, its format judged by content: jpg, png, gif (first frame) and webp (first
 * frame) by sharp, bmp by our own reader, because the prebuilt libvips has none. EXIF orientation is applied, an embedded colour profile
 * converted to sRGB, alpha dropped (as Pillow's `convert("RGB")` does), 16 bits cut to 8.
 * @throws AppError IMAGE_UNREADABLE naming the file and the reason; nothing is decoded before the size was judged by the header.
 */
export async function readImage(path: string): Promise<RgbImage> {
  const name = basename(path);
  const bytes = await readFile(path).catch((thrown: unknown) => {
    throw new AppError("IMAGE_UNREADABLE", `image ${name} cannot be opened: ${reason(thrown)}`, { cause: thrown });
  });
  if (bytes.length === 0) throw new AppError("IMAGE_UNREADABLE", `image ${name} is empty; ${EXPECTED}`);
  try {
    return isBmp(bytes) ? readBmp(bytes, name) : await readWithSharp(bytes, name);
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    throw new AppError("IMAGE_UNREADABLE", `image ${name} is damaged or of an unknown format (${reason(thrown)}); ${EXPECTED}`, {
      cause: thrown,
    });
  }
}

function readBmp(bytes: Uint8Array, name: string): RgbImage {
  const header = readBmpHeader(bytes);
  requireSize(name, header.width, header.height);
  return decodeBmp(bytes, header);
}

async function readWithSharp(bytes: Uint8Array, name: string): Promise<RgbImage> {
  // The header alone is safe at any size, and lets the message name it.
  const { format, width, height } = await sharp(bytes, { limitInputPixels: false }).metadata();
  if (!FORMATS.has(format)) throw new AppError("IMAGE_UNREADABLE", `image ${name} is ${format}; ${EXPECTED}`);
  requireSize(name, width, height);
  const { data, info } = await sharp(bytes, { limitInputPixels: MAX_IMAGE_SIDE ** 2, failOn: "truncated" })
    .autoOrient()
    .toColourspace("srgb")
    .removeAlpha()
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3) throw new AppError("IMAGE_UNREADABLE", `image ${name} has ${info.channels} channels after decoding, expected 3`);
  return { width: info.width, height: info.height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
}

function requireSize(name: string, width: number, height: number): void {
  const fits = (side: number): boolean => side >= MIN_IMAGE_SIDE && side <= MAX_IMAGE_SIDE;
  if (fits(width) && fits(height)) return;
  throw new AppError(
    "IMAGE_UNREADABLE",
    `image ${name} is ${width} x ${height} pixels, expected ${MIN_IMAGE_SIDE} to ${MAX_IMAGE_SIDE} a side`,
  );
}

function reason(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text.trim().split("\n")[0] ?? text;
}
