import type { RgbImage } from "./rgb-image.ts";

/**
 * Reads Windows bitmaps, which the prebuilt libvips in sharp cannot: 1, 4, 8, 16, 24 and 32 bits, palettes, colour masks and run
 * lengths; alpha is dropped. Source: Microsoft's BITMAPFILEHEADER, BITMAPINFOHEADER and BITMAPV5HEADER pages.
 */
export interface BmpHeader {
  readonly width: number;
  readonly height: number;
  readonly topDown: boolean;
  readonly bits: number;
  /** 0 none, 1 run lengths of 8 bits, 2 of 4 bits, 3 and 6 colour masks */
  readonly compression: number;
  readonly pixelsAt: number;
  readonly palette: Uint8Array;
  readonly masks: readonly [red: number, green: number, blue: number];
}

const FILE_HEADER_BYTES = 14;
const CORE_HEADER_BYTES = 12;
const INFO_HEADER_BYTES = 40;

export function isBmp(bytes: Uint8Array): boolean {
  return bytes.length >= FILE_HEADER_BYTES + CORE_HEADER_BYTES && bytes[0] === 0x42 && bytes[1] === 0x4d;
}

/** @throws RangeError that says what is wrong with the file */
export function readBmpHeader(bytes: Uint8Array): BmpHeader {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    return readHeader(view);
  } catch (thrown) {
    if (thrown instanceof RangeError && "code" in thrown) throw new RangeError("the file ends inside its header", { cause: thrown });
    throw thrown;
  }
}

function readHeader(view: Buffer): BmpHeader {
  const headerBytes = view.readUInt32LE(14);
  const core = headerBytes === CORE_HEADER_BYTES;
  if (!core && headerBytes < INFO_HEADER_BYTES) throw new RangeError(`its header is of an unknown kind (${headerBytes} bytes)`);
  const width = core ? view.readUInt16LE(18) : view.readInt32LE(18);
  const signedHeight = core ? view.readUInt16LE(20) : view.readInt32LE(22);
  const bits = view.readUInt16LE(core ? 24 : 28);
  const compression = core ? 0 : view.readUInt32LE(30);
  const allowed = { 0: [1, 4, 8, 16, 24, 32], 1: [8], 2: [4], 3: [16, 32], 6: [16, 32] }[compression];
  if (allowed === undefined || !allowed.includes(bits))
    throw new RangeError(`${bits} bits with compression ${compression} are not supported`);
  const afterHeader = FILE_HEADER_BYTES + headerBytes;
  const masksFollow = headerBytes === INFO_HEADER_BYTES && (compression === 3 || compression === 6);
  const colors = bits > 8 ? 0 : core ? 2 ** bits : view.readUInt32LE(46) || 2 ** bits;
  return {
    width,
    height: Math.abs(signedHeight),
    topDown: signedHeight < 0,
    bits,
    compression,
    pixelsAt: view.readUInt32LE(10),
    palette: readPalette(view, afterHeader + (masksFollow ? 12 : 0), Math.min(colors, 2 ** bits), core ? 3 : 4),
    masks:
      compression === 3 || compression === 6 ? [view.readUInt32LE(54), view.readUInt32LE(58), view.readUInt32LE(62)] : defaultMasks(bits),
  };
}

function defaultMasks(bits: number): BmpHeader["masks"] {
  return bits === 16 ? [0x7c00, 0x03e0, 0x001f] : [0xff0000, 0x00ff00, 0x0000ff];
}

/** 256 colours as red, green, blue; those that the file leaves out are black. */
function readPalette(view: Buffer, at: number, colors: number, entryBytes: number): Uint8Array {
  const palette = new Uint8Array(256 * 3);
  for (let i = 0; i < colors; i++) {
    palette[i * 3] = view.readUInt8(at + i * entryBytes + 2);
    palette[i * 3 + 1] = view.readUInt8(at + i * entryBytes + 1);
    palette[i * 3 + 2] = view.readUInt8(at + i * entryBytes);
  }
  return palette;
}

/** Decodes a file whose header was read, and whose size was judged, before. @throws RangeError that says what is wrong with the file */
export function decodeBmp(bytes: Uint8Array, header: BmpHeader): RgbImage {
  const { width, height, bits } = header;
  const data = new Uint8Array(width * height * 3);
  const rowOf = (line: number): number => (header.topDown ? line : height - 1 - line) * width * 3;
  if (header.compression === 1 || header.compression === 2) {
    decodeRuns(bytes, header, (x, line, color) => data.set(header.palette.subarray(color * 3, color * 3 + 3), rowOf(line) + x * 3));
    return { width, height, data };
  }
  const stride = Math.ceil((width * bits) / 32) * 4;
  // The last row of some writers lacks its padding.
  const needed = header.pixelsAt + stride * (height - 1) + Math.ceil((width * bits) / 8);
  if (bytes.length < needed) throw new RangeError(`it is truncated: ${bytes.length} of ${needed} bytes are there`);
  const readRow = bits <= 8 ? paletteRow(header) : maskedRow(header);
  for (let line = 0; line < height; line++) readRow(bytes, header.pixelsAt + line * stride, data, rowOf(line));
  return { width, height, data };
}

type RowReader = (bytes: Uint8Array, at: number, data: Uint8Array, out: number) => void;

function paletteRow({ bits, width, palette }: BmpHeader): RowReader {
  const perByte = 8 / bits;
  const mask = 2 ** bits - 1;
  return (bytes, at, data, out) => {
    for (let x = 0; x < width; x++) {
      const packed = bytes[at + Math.floor(x / perByte)]!;
      const color = ((packed >> (8 - bits * ((x % perByte) + 1))) & mask) * 3;
      data[out + x * 3] = palette[color]!;
      data[out + x * 3 + 1] = palette[color + 1]!;
      data[out + x * 3 + 2] = palette[color + 2]!;
    }
  };
}

function maskedRow({ bits, width, masks }: BmpHeader): RowReader {
  const pixelBytes = bits / 8;
  const channels = masks.map((mask) => {
    const shift = mask === 0 ? 0 : 31 - Math.clz32(mask & -mask);
    return { mask, shift, max: mask >>> shift };
  });
  return (bytes, at, data, out) => {
    for (let x = 0; x < width; x++) {
      const from = at + x * pixelBytes;
      let pixel = bytes[from]! | (bytes[from + 1]! << 8);
      if (pixelBytes > 2) pixel |= bytes[from + 2]! << 16;
      if (pixelBytes > 3) pixel |= bytes[from + 3]! << 24;
      for (let color = 0; color < 3; color++) {
        const { mask, shift, max } = channels[color]!;
        data[out + x * 3 + color] = max === 0 ? 0 : Math.round((((pixel & mask) >>> shift) * 255) / max);
      }
    }
  };
}

/** Run lengths: (count, colour) pairs; count 0 escapes to end of line, end of picture, a move, or literal colours. */
function decodeRuns(bytes: Uint8Array, header: BmpHeader, paint: (x: number, line: number, color: number) => void): void {
  const nibbles = header.compression === 2;
  let x = 0;
  let line = 0;
  const put = (color: number): void => {
    if (x < header.width && line < header.height) paint(x, line, color);
    x++;
  };
  for (let at = header.pixelsAt; at + 1 < bytes.length && line < header.height;) {
    const count = bytes[at++]!;
    const value = bytes[at++]!;
    if (count > 0) {
      for (let i = 0; i < count; i++) put(nibbles ? (i % 2 === 0 ? value >> 4 : value & 15) : value);
    } else if (value === 0) {
      x = 0;
      line++;
    } else if (value === 1) {
      return;
    } else if (value === 2) {
      x += bytes[at++] ?? 0;
      line += bytes[at++] ?? 0;
    } else {
      for (let i = 0; i < value; i++) {
        const byte = bytes[at + (nibbles ? i >> 1 : i)] ?? 0;
        put(nibbles ? (i % 2 === 0 ? byte >> 4 : byte & 15) : byte);
      }
      const used = nibbles ? (value + 1) >> 1 : value;
      at += used + (used % 2);
    }
  }
}
