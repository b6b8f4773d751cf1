/** So many bytes are written at a time: each write is a trip to the thread pool. */
const WRITE_BYTES = 2 ** 20;

/** A body's chunks, some of them together, up to `most` bytes in all. A body that breaks gives what came before it throws. */
export async function* blocks(
  body: AsyncIterable<Buffer>,
  most: number,
): AsyncGenerator<{ readonly chunks: readonly Buffer[]; readonly bytes: number }> {
  let [chunks, bytes, left]: [Buffer[], number, number] = [[], 0, most];
  let broken: { readonly thrown: unknown } | null = null;
  try {
    for await (const chunk of body) {
      const part = chunk.subarray(0, left);
      chunks.push(part);
      bytes += part.length;
      left -= part.length;
      if (bytes < WRITE_BYTES) continue;
      yield { chunks, bytes };
      [chunks, bytes] = [[], 0];
    }
  } catch (thrown) {
    broken = { thrown };
  }
  if (bytes > 0) yield { chunks, bytes };
  if (broken !== null) throw broken.thrown;
}
