import { randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { httpDate } from "../../lib/http-date.ts";
import { contentRange, multipartFrames, parseRanges, type Span } from "./byte-ranges.ts";
import { HttpProblem } from "./errors.ts";
import { decidePreconditions, rangeApplies, type Validators } from "./preconditions.ts";

/** Bytes that are served whole, in parts or not at all, as the request's conditions have it. */
export interface Representation extends Validators {
  readonly sizeBytes: number;
  readonly contentType: string;
  readonly cacheControl: string;
  /** Sent with 200 and 206. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent with 304 too, as it has to be. */
  readonly vary?: string;
  /** The bytes, or what opens a part of them (null: all): called only when they are sent. */
  readonly content: Buffer | ((span: Span | null) => Promise<Readable>);
}

/** Answers a GET or HEAD (RFC 9110, 13 and 14). Its route must take both methods, for fastify says of its own HEAD that it has no length. */
export async function sendRepresentation(request: FastifyRequest, reply: FastifyReply, found: Representation): Promise<FastifyReply> {
  const { etag, modifiedAt, sizeBytes, contentType, cacheControl, vary } = found;
  const shared = {
    ETag: etag,
    "Cache-Control": cacheControl,
    ...(modifiedAt !== null && { "Last-Modified": httpDate(modifiedAt) }),
    ...(vary !== undefined && { Vary: vary }),
  };
  const decision = decidePreconditions(request.headers, found);
  if (decision === "failed") throw new HttpProblem(412, { message: "The file is not in the state that the request asks for." });
  if (decision === "not-modified") return reply.code(304).headers(shared).send();
  const spans = spansOf(request, found);
  if (spans === "unsatisfiable")
    throw new HttpProblem(
      416,
      { message: `The range lies behind the end: the file has ${sizeBytes} bytes.` },
      { "Content-Range": `bytes */${sizeBytes}` },
    );
  reply.headers({ ...shared, ...found.headers, "Accept-Ranges": "bytes" });
  const [span, ...more] = spans ?? [];
  if (span !== undefined && more.length > 0) return sendParts(reply, found, spans ?? []);
  reply.type(contentType).header("Content-Length", String(span === undefined ? sizeBytes : span.end - span.start + 1));
  if (span !== undefined) reply.code(206).header("Content-Range", contentRange(span, sizeBytes));
  // In memory: as for GET, so that it is compressed, and its length said, in the same way.
  return request.method === "HEAD" && !Buffer.isBuffer(found.content) ? reply.send() : reply.send(await partOf(found, span ?? null));
}

async function partOf({ content }: Representation, span: Span | null): Promise<Readable | Buffer> {
  if (!Buffer.isBuffer(content)) return content(span);
  return span === null ? content : content.subarray(span.start, span.end + 1);
}

/** Ranges are of GET alone. */
function spansOf({ method, headers }: FastifyRequest, found: Representation): ReturnType<typeof parseRanges> {
  return method === "GET" && rangeApplies(headers, found) ? parseRanges(headers.range, found.sizeBytes) : null;
}

function sendParts(reply: FastifyReply, found: Representation, spans: readonly Span[]): FastifyReply {
  const { sizeBytes, contentType } = found;
  const boundary = randomUUID();
  const { heads, tail, bytes } = multipartFrames(spans, { size: sizeBytes, contentType, boundary });
  async function* parts(): AsyncGenerator<Buffer> {
    for (const [index, span] of spans.entries()) {
      yield Buffer.from(heads[index] ?? "");
      const part = await partOf(found, span);
      if (Buffer.isBuffer(part)) yield part;
      else for await (const chunk of part) yield chunk as Buffer;
    }
    yield Buffer.from(tail);
  }
  return reply
    .code(206)
    .type(`multipart/byteranges; boundary=${boundary}`)
    .header("Content-Length", String(bytes))
    .send(Readable.from(parts(), { objectMode: false }));
}
