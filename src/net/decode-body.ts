import { pipeline, Readable, Transform, type Duplex } from "node:stream";
import { constants, createBrotliDecompress, createGunzip, createInflate, createInflateRaw, createZstdDecompress } from "node:zlib";
import { FetchFailure } from "./fetch-failure.ts";

/** More in a row is no file, but an attack. */
const MAX_CODINGS = 3;
/** Memory that a zstd stream may ask for, as a power of two: 128 MiB, which its own program grants without being asked for more. */
const ZSTD_WINDOW_LOG = 27;

type Decoder = Duplex | ((source: AsyncIterable<Buffer>) => AsyncIterable<Buffer>);

const DECODERS: Readonly<Record<string, () => Decoder>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => inflate,
  br: () => createBrotliDecompress(),
  zstd: () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG } }),
};

export interface Encoded {
  /** `Content-Encoding` and `Transfer-Encoding` of the answer, in the order in which they were applied. */
  readonly codings: readonly string[];
  /** Of what comes out of each decoder: a small answer may unfold to a huge one. */
  readonly maxBytes: number;
  readonly tooLarge: () => Error;
}

/** The codings that headers name. Lists may be split over several headers of one name. */
export function codingsOf(...headers: readonly (string | readonly string[] | undefined)[]): readonly string[] {
  return headers
    .flatMap((header) => header ?? [])
    .flatMap((text) => text.split(","))
    .map((name) => name.trim().toLowerCase())
    .filter((name) => name !== "" && name !== "identity" && name !== "chunked");
}

/**
 * The file inside an encoded answer. We ask for none, but servers that keep files compressed send them so all the same.
 * @throws FetchFailure `answer` for a coding that is not known; the stream ends with one where the data are not what the coding says
 */
export function decodeBody(body: Readable, { codings, maxBytes, tooLarge }: Encoded): Readable {
  if (codings.length > MAX_CODINGS) throw new FetchFailure("answer", `the server encoded the file ${codings.length} times`);
  const decoders = codings.toReversed().map((name) => {
    const open = Object.hasOwn(DECODERS, name) ? DECODERS[name] : undefined;
    if (open !== undefined) return open();
    throw new FetchFailure("answer", `the server sent the file in encoding ${JSON.stringify(name.slice(0, 40))}, which is not known`);
  });
  // Whoever reads the last stream gets the error of any.
  return decoders.reduce((source, decoder) => pipeline(source, decoder, limitOf(maxBytes, tooLarge), () => undefined), body);
}

function limitOf(maxBytes: number, tooLarge: () => Error): Transform {
  let sizeBytes = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      sizeBytes += chunk.length;
      if (sizeBytes > maxBytes) done(tooLarge());
      else done(null, chunk);
    },
  });
}

/** `deflate` means zlib's format (RFC 9110, section 8.4.1.2), but some servers send it bare: the first two bytes tell. */
async function* inflate(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = source[Symbol.asyncIterator]();
  let head: Buffer = Buffer.alloc(0);
  while (head.length < 2) {
    const next = await chunks.next();
    if (next.done === true) break;
    head = Buffer.concat([head, next.value]);
  }
  const all = async function* (): AsyncGenerator<Buffer> {
    yield head;
    yield* { [Symbol.asyncIterator]: () => chunks };
  };
  const inflater = isZlib(head) ? createInflate() : createInflateRaw();
  yield* pipeline(Readable.from(all()), inflater, () => undefined) as AsyncIterable<Buffer>;
}

/** Method 8 (deflate), and a check over both bytes (RFC 1950, section 2.2). */
function isZlib(head: Buffer): boolean {
  return head.length >= 2 && ((head[0] ?? 0) & 0x0f) === 8 && head.readUInt16BE(0) % 31 === 0;
}
