import { finished, type Readable } from "node:stream";

/** Whether anything comes before the end; what came stays to be read. */
export async function hasBytes(source: Readable): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const look = (): void => {
    if (source.readableLength > 0) resolve(true);
    // With nothing left this is what lets the stream end.
    else source.read();
  };
  // A sender that leaves has sent nothing: whoever reads on finds out.
  const unwatch = finished(source, { writable: false }, () => resolve(false));
  source.on("readable", look);
  const has = await promise;
  unwatch();
  source.off("readable", look);
  // Only then the stream flows for others again.
  await new Promise<void>((done) => {
    process.nextTick(done);
  });
  return has;
}

/** Up to `limit` bytes and the chunk that goes beyond them; `isWhole` when that is all. @throws what the stream throws */
export async function firstBytes(
  source: Readable,
  limit: number,
): Promise<{ readonly chunks: readonly Buffer[]; readonly isWhole: boolean }> {
  const chunks: Buffer[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  let left = limit;
  const take = (chunk: Buffer): void => {
    chunks.push(chunk);
    left -= chunk.length;
    if (left < 0) resolve(false);
  };
  const unwatch = finished(source, { writable: false }, (error) => (error ? reject(error) : resolve(true)));
  source.on("data", take);
  try {
    return { isWhole: await promise, chunks };
  } finally {
    source.off("data", take);
    source.pause();
    unwatch();
  }
}
