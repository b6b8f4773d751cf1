import sharp from "sharp";
import { imageType } from "../../requests/image-type.ts";
import { readHead } from "./read-head.ts";
import type { Upload } from "./upload.ts";

export type ImageCheck =
  | { readonly ok: true; readonly width: number; readonly height: number }
  /** `problem` completes "The x field ...". */
  | { readonly ok: false; readonly problem: string };

export const MAX_IMAGE_BYTES: number = 10 * 1024 * 1024;
const MIN_SIDE = 64;
const MAX_SIDE = 5_000;
const ACCEPTED: ReadonlySet<string> = new Set(["image/jpeg", "image/png", "image/gif", "image/bmp", "image/webp"]);
const BMP_HEADER_BYTES = 26;

/** Judges a file by its content alone: format, size in bytes and, from its header, in pixels. Nothing is decoded, so that no bomb goes off here. */
export async function checkImage({ path, sizeBytes }: Pick<Upload, "path" | "sizeBytes">): Promise<ImageCheck> {
  const no = (problem: string): ImageCheck => ({ ok: false, problem });
  if (sizeBytes > MAX_IMAGE_BYTES) return no("must not be greater than 10 MB.");
  const head = await readHead(path, BMP_HEADER_BYTES);
  const type = imageType(head)?.contentType ?? "";
  if (!ACCEPTED.has(type)) return no("must be a file of type: jpg, png, gif, bmp, webp.");
  const size = type === "image/bmp" ? bmpSize(head) : await headerSize(path);
  if (size === null) return no("is a damaged image.");
  const { width, height } = size;
  if (Math.min(width, height) < MIN_SIDE || Math.max(width, height) > MAX_SIDE)
    return no(`must be ${MIN_SIDE} to ${MAX_SIDE} pixels wide and high; it is ${width} x ${height}.`);
  return { ok: true, width, height };
}

/** As it will be shown: a photograph that is stored on its side counts upright. */
async function headerSize(path: string): Promise<{ readonly width: number; readonly height: number } | null> {
  try {
    const { autoOrient } = await sharp(path, { limitInputPixels: false, failOn: "none" }).metadata();
    return autoOrient;
  } catch {
    return null;
  }
}

/** BITMAPCOREHEADER and later; a negative height means that rows go downwards. */
function bmpSize(head: Buffer): { readonly width: number; readonly height: number } | null {
  if (head.length < BMP_HEADER_BYTES) return null;
  if (head.readUInt32LE(14) === 12) return { width: head.readUInt16LE(18), height: head.readUInt16LE(20) };
  return { width: head.readInt32LE(18), height: Math.abs(head.readInt32LE(22)) };
}
