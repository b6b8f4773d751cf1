import type { Decoding } from "../graph/decoding.ts";

/** One piece of music on its way, code by code. */
export class CodeSequence implements Disposable {
  readonly #decoding: Decoding;
  readonly #rows: number;
  readonly #codes: number;

  /** @param codes different codes of a codebook */
  constructor(decoding: Decoding, rows: number, codes: number) {
    this.#decoding = decoding;
    this.#rows = rows;
    this.#codes = codes;
  }

  /**
   * One step: `last` are the codes before, one per codebook, the same for all rows. Resolves to the logits of the next ones, one array per
   * row and codebook: row 0 book 0, row 0 book 1 ... Valid until the next step.
   */
  async step(last: readonly number[]): Promise<readonly Float32Array[]> {
    const ids = Array.from({ length: this.#rows }, () => last.map((code) => [code])).flat();
    const logits = await this.#decoding.step(ids);
    const size = this.#codes;
    return ids.map((_, index) => logits.subarray(index * size, (index + 1) * size));
  }

  [Symbol.dispose](): void {
    this.#decoding[Symbol.dispose]();
  }
}
