import type { FileHandle } from "node:fs/promises";
import { OnnxDamage } from "./onnx-damage.ts";

/** Bytes that are held of a file at a time; single messages that are read whole may not be larger. */
const WINDOW_BYTES = 64 * 1024;

/** A sliding look at a file: a few bytes of it are in memory, and what is passed over is never read. */
export class ByteWindow {
  readonly size: number;
  /** Where reading goes on, in bytes from the file's start. */
  at = 0;
  readonly #buffer = Buffer.alloc(WINDOW_BYTES);
  #start = 0;
  #held = 0;

  constructor(size: number) {
    this.size = size;
  }

  /** Whether the next `count` bytes are in memory, or all that the file still has. */
  holds(count: number): boolean {
    const end = Math.min(this.at + count, this.size);
    return this.at >= this.#start && end <= this.#start + this.#held;
  }

  /** Reads what follows `at`. Rejects with the file system's error. */
  async fill(handle: FileHandle): Promise<void> {
    this.#start = this.at;
    this.#held = 0;
    while (this.#held < WINDOW_BYTES && this.#start + this.#held < this.size) {
      const { bytesRead } = await handle.read(this.#buffer, this.#held, WINDOW_BYTES - this.#held, this.#start + this.#held);
      if (bytesRead === 0) throw new OnnxDamage("became shorter while it was read");
      this.#held += bytesRead;
    }
  }

  /** A protobuf varint before `end`; exact up to 2^53, which is more than any file has. @throws OnnxDamage */
  varint(end: number): number {
    let value = 0;
    let scale = 1;
    for (let count = 0; count < 10; count++) {
      if (this.at >= end) throw new OnnxDamage(`ends in the middle of a number at byte ${this.at}`);
      const byte = this.#buffer[this.at - this.#start] ?? 0;
      this.at += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
      scale *= 128;
    }
    throw new OnnxDamage(`has no number at byte ${this.at}: it is no protobuf from there on`);
  }

  /** The next bytes, which must be held; valid until the next fill. */
  peek(count: number): Buffer {
    const from = this.at - this.#start;
    return this.#buffer.subarray(from, from + count);
  }
}

/** The largest message that may be read whole. */
export const MAX_WHOLE_BYTES = WINDOW_BYTES;
