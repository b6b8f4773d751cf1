/**
 * Keeps the embeddings of the latest prompts, at most `maxBytes` of them, so that a repeated prompt runs no text encoder. The least
 * recently used one goes first; an embedding larger than the bound is not kept. Keys must name the model's files and the lengths too.
 */
export class EmbeddingCache<E extends object> {
  readonly #maxBytes: number;
  /** A Map keeps insertion order: the first entry is the one that was not used for longest. */
  readonly #entries = new Map<string, E>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** The embedding of a key, made where it is not held. */
  async through(key: string, make: () => Promise<E>): Promise<{ readonly embedding: E; readonly cached: boolean }> {
    const held = this.#get(key);
    if (held !== null) return { embedding: held, cached: true };
    const embedding = await make();
    this.#set(key, embedding);
    return { embedding, cached: false };
  }

  #get(key: string): E | null {
    const found = this.#entries.get(key);
    if (found === undefined) return null;
    this.#entries.delete(key);
    this.#entries.set(key, found);
    return found;
  }

  #set(key: string, embedding: E): void {
    this.#drop(key);
    const size = bytesOf(key, embedding);
    if (size > this.#maxBytes) return;
    this.#entries.set(key, embedding);
    this.#bytes += size;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    const held = this.#entries.get(key);
    if (held === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= bytesOf(key, held);
  }
}

/** All arrays of an embedding, and its key. */
function bytesOf(key: string, embedding: object): number {
  const arrays = Object.values(embedding).filter((value: unknown) => ArrayBuffer.isView(value));
  return arrays.reduce((sum, { byteLength }) => sum + byteLength, key.length * 2);
}
