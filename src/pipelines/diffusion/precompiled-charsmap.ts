/**
 * SentencePiece's normalisation as T5's tokenizer.json carries it (`Precompiled`): a double-array trie from UTF-8 bytes to replacement
 * texts. @huggingface/tokenizers only approximates it by NFKC and a list of spaces, which gives other ids for joined emoji.
 * Sources: huggingface/spm_precompiled src/lib.rs, s-yata/darts-clone.
 *
 * Quirks of the reference are kept: a grapheme under 6 bytes is looked up as a whole first, and the shortest prefix that has an entry wins.
 */
export class PrecompiledCharsmap {
  readonly #trie: Uint32Array;
  readonly #texts: Buffer;
  readonly #graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

  /** @param base64 `precompiled_charsmap`: bytes of the trie (u32), trie, NUL-ended texts @throws RangeError for a cut one */
  constructor(base64: string) {
    const bytes = Buffer.from(base64, "base64");
    const trieBytes = bytes.length < 4 ? Infinity : bytes.readUInt32LE(0);
    if (trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length) throw new RangeError("precompiled_charsmap is cut or of another format");
    this.#trie = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => bytes.readUInt32LE(4 + i * 4));
    this.#texts = bytes.subarray(4 + trieBytes);
  }

  normalize(text: string): string {
    let normalized = "";
    for (const { segment } of this.#graphemes.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? this.#lookUp(segment) : null;
      if (whole !== null) {
        normalized += whole;
        continue;
      }
      for (const char of segment) normalized += this.#lookUp(char) ?? char;
    }
    return normalized;
  }

  /** Replacement for the shortest prefix of `chunk` that has one; null when none has. */
  #lookUp(chunk: string): string | null {
    const trie = this.#trie;
    let node = offsetOf(trie[0] ?? 0);
    for (const byte of Buffer.from(chunk)) {
      if (byte === 0) return null;
      node ^= byte;
      const unit = trie[node];
      // The label: the byte, with the top bit clear on inner nodes.
      if (unit === undefined || (unit & 0x800000ff) !== byte) return null;
      node ^= offsetOf(unit);
      if ((unit & 0x100) !== 0) return this.#textAt((trie[node] ?? 0) & 0x7fffffff);
    }
    return null;
  }

  #textAt(start: number): string {
    const end = this.#texts.indexOf(0, start);
    return this.#texts.toString("utf8", start, end === -1 ? undefined : end);
  }
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}
