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

/** What is read: a file, and the field of the request that it came in. */
interface Source {
  readonly path: string;
  readonly field: string | undefined;
}

/**
 * Decodes an input picture of at most 5000 x 5000 pixels, its format judged by content: jpg, png, gif (first frame) and webp (first
 * frame) by sharp, bmp by our own reader, because the prebuilt libvips has none. EXIF orientation is applied, an embedded colour profile
 * converted to sRGB, alpha dropped (as Pillow's `convert("RGB")` does), 16 bits cut to 8.
 * @throws AppError IMAGE_UNREADABLE, IMAGE_SIZE_INVALID naming the file and the reason; nothing is decoded before the size was judged by the
 * header. INTERNAL where the file is not there.
 */
export async function readImage(path: string, field?: string): Promise<RgbImage> {
  const source = { path, field };
  const bytes = await readFile(path).catch((thrown: unknown) => {
    throw new AppError("INTERNAL", `image ${basename(path)} cannot be opened: ${reason(thrown)}`, { cause: thrown });
  });
  if (bytes.length === 0) throw unreadable(source, "is empty", "It is empty.");
  try {
    return isBmp(bytes) ? readBmp(bytes, source) : await readWithSharp(bytes, source);
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    throw unreadable(source, `is damaged or of an unknown format (${reason(thrown)})`, "It is damaged or of an unknown format.", thrown);
  }
}

function readBmp(bytes: Uint8Array, source: Source): RgbImage {
  const header = readBmpHeader(bytes);
  requireSize(source, header.width, header.height);
  return decodeBmp(bytes, header);
}

async function readWithSharp(bytes: Uint8Array, source: Source): Promise<RgbImage> {
  // The header alone is safe at any size, and lets the message name it.
  const { format, width, height } = await sharp(bytes, { limitInputPixels: false }).metadata();
  if (!FORMATS.has(format)) throw unreadable(source, `is ${format}`, `It is of the format ${format}.`);
  requireSize(source, width, height);
  const { data, info } = await sharp(bytes, { limitInputPixels: MAX_IMAGE_SIDE ** 2, failOn: "truncated" })
    .autoOrient()
    .toColourspace("srgb")
    .removeAlpha()
    .raw({ depth: "uchar" })
    .toBuffer({ resolveWithObject: true });
  if (info.channels !== 3)
    throw unreadable(source, `has ${info.channels} channels after decoding, expected 3`, "Its colours could not be read.");
  return { width: info.width, height: info.height, data: new Uint8Array(data.buffer, data.byteOffset, data.length) };
}

function requireSize({ path, field }: Source, width: number, height: number): void {
  const fits = (side: number): boolean => side >= MIN_IMAGE_SIDE && side <= MAX_IMAGE_SIDE;
  if (fits(width) && fits(height)) return;
  const text = `${width} x ${height} pixels, expected ${MIN_IMAGE_SIDE} to ${MAX_IMAGE_SIDE} a side`;
  throw new AppError("IMAGE_SIZE_INVALID", `image ${basename(path)} is ${text}`, {
    detail: `It is ${text}.`,
    ...(field !== undefined && { field }),
  });
}

function unreadable({ path, field }: Source, what: string, detail: string, cause?: unknown): AppError {
  const named = field === undefined ? {} : { field };
  return new AppError("IMAGE_UNREADABLE", `image ${basename(path)} ${what}; ${EXPECTED}`, { detail, cause, ...named });
}

function reason(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text.trim().split("\n")[0] ?? text;
}
