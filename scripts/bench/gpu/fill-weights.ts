import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";

/** Values that are written at a time. */
const BLOCK = 2 ** 20;

interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly type: "float32" | "float16";
  /** In the file, bytes. */
  readonly offset: number;
  readonly mean: number;
  readonly deviation: number;
}

type WeightFiles = readonly { readonly file: string; readonly weights: readonly Weight[] }[];

/**
 * Draws the weights that scripts/export/geometry.py listed in `weights.json`, each evenly about its mean with its deviation, and writes them
 * where the graphs look for them. The same seed and list give the same bytes everywhere. Streams: memory does not grow with the weights. Does
 * nothing for a file that is as long as it should be.
 * @returns bytes of all weights
 */
export async function fillWeights(folder: string, seed = 1): Promise<number> {
  const files = JSON.parse(await readFile(join(folder, "weights.json"), "utf8")) as WeightFiles;
  let total = 0;
  for (const { file, weights } of files) {
    const path = join(folder, file);
    const size = Math.max(...weights.map((weight) => weight.offset + bytesOf(weight)));
    total += size;
    if ((await stat(path).catch(() => null))?.size === size) continue;
    await using handle = await open(path, "w");
    for (const [index, weight] of weights.entries()) {
      let offset = weight.offset;
      for (const bytes of drawn(weight, seed * 1_000_003 + index)) {
        await handle.write(bytes, 0, bytes.byteLength, offset);
        offset += bytes.byteLength;
      }
    }
    await handle.sync();
  }
  return total;
}

function countOf({ shape }: Weight): number {
  return shape.reduce((product, size) => product * size, 1);
}

function bytesOf(weight: Weight): number {
  return countOf(weight) * (weight.type === "float16" ? 2 : 4);
}

/** A value for each 16 random bits. */
function valuesOf({ type, mean, deviation }: Weight): Float16Array | Float32Array {
  const values = type === "float16" ? new Float16Array(2 ** 16) : new Float32Array(2 ** 16);
  // An even distribution over [-a, a] has the deviation a / sqrt(3).
  for (let bits = 0; bits < 2 ** 16; bits++) values[bits] = mean + deviation * Math.sqrt(3) * ((2 * bits + 1) / 2 ** 16 - 1);
  return values;
}

/** xorshift32 (Marsaglia 2003, 13/17/5), two values a draw. */
function* drawn(weight: Weight, seed: number): Generator<Uint8Array> {
  const values = valuesOf(weight);
  const block = weight.type === "float16" ? new Float16Array(BLOCK) : new Float32Array(BLOCK);
  let state = Math.imul(seed, 0x9e3779b1) | 1;
  for (let left = countOf(weight); left > 0; left -= BLOCK) {
    for (let at = 0; at < BLOCK; at += 2) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      block[at] = values[state & 0xffff] ?? NaN;
      block[at + 1] = values[state >>> 16] ?? NaN;
    }
    yield new Uint8Array(block.buffer, 0, Math.min(left, BLOCK) * block.BYTES_PER_ELEMENT);
  }
}
