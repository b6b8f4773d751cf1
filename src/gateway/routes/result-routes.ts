import { extname } from "node:path";
import type { FastifyInstance, FastifyReply } from "fastify";
import type { ResultFile } from "../../protocol/result.ts";
import type { ByteRange } from "../../storage/object-store.ts";
import { contentDisposition } from "../../storage/content-disposition.ts";
import { readState } from "../../requests/read-state.ts";
import { isResultLink } from "../../requests/result-link.ts";
import { HttpProblem, notFound } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";

/** A presigned link has to live only as long as a client needs to follow it. */
const REDIRECT_MS = 300_000;

interface LinkRequest {
  readonly Params: { readonly id: string; readonly file: string };
  readonly Querystring: { readonly exp?: unknown; readonly sig?: unknown };
}

/** `GET /r/<id>/<file>?exp=&sig=`: the signature is the right; no key is needed. A file: store's object is streamed, an s3: one redirected to. */
export async function resultRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  app.get<LinkRequest>("/r/:id/:file", async (request, reply) => {
    const { id, file: name } = request.params;
    const { exp, sig } = request.query;
    const link = { id, file: name, expiresAt: Number(exp), signature: typeof sig === "string" ? sig : "" };
    if (!isResultLink(await context.secrets.get("result-links"), link, await context.requests.now()))
      throw new HttpProblem(403, { message: "The link is invalid or has expired." });
    const found = await readState(context, id);
    const file = found?.state.result?.files.find((each) => each.name === name);
    if (file === undefined) throw notFound();
    const direct = await context.store.presign(file.key, { expiresInMs: REDIRECT_MS, downloadName: downloadName(id, file) });
    if (direct !== null) return reply.header("Cache-Control", "no-store").redirect(direct, 302);
    return stream(context, { id, file, range: rangeOf(request.headers.range, file.sizeBytes) }, reply);
  });
}

type Range = ByteRange | null | "unsatisfiable";

async function stream(
  { store }: GatewayContext,
  { id, file, range }: { readonly id: string; readonly file: ResultFile; readonly range: Range },
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (range === "unsatisfiable")
    throw new HttpProblem(416, { message: "The range cannot be satisfied." }, { "Content-Range": `bytes */${file.sizeBytes}` });
  const object = await store.get(file.key, range === null ? {} : { range });
  if (object === null) throw notFound();
  const isMedia = /^(?:image|audio|video)\//.test(file.contentType);
  reply.headers({
    "Content-Type": file.contentType,
    "Content-Length": String(object.bodyBytes),
    "Accept-Ranges": "bytes",
    ETag: object.head.etag,
    "Cache-Control": "private, max-age=86400, immutable",
    ...(isMedia ? {} : { "Content-Disposition": contentDisposition(downloadName(id, file)) }),
  });
  if (range !== null) {
    const end = range.start + object.bodyBytes - 1;
    reply.code(206).header("Content-Range", `bytes ${range.start}-${end}/${file.sizeBytes}`);
  }
  return reply.send(object.body);
}

/** One range of a `Range` header (RFC 9110, 14.2); null for none, for several and for other units: then the whole file is the answer. */
export function rangeOf(header: string | undefined, size: number): Range {
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "") ?? [];
  if (first === undefined || last === undefined || (first === "" && last === "")) return null;
  if (first === "") {
    const suffix = Number(last);
    return suffix === 0 ? "unsatisfiable" : { start: Math.max(0, size - suffix), end: size - 1 };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return null;
  return start >= size ? "unsatisfiable" : { start, end: last === "" ? size - 1 : Math.min(size - 1, Number(last)) };
}

function downloadName(id: string, file: ResultFile): string {
  return `${id}${extname(file.name)}`;
}
