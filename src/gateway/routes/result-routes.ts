import { extname } from "node:path";
import type { FastifyInstance } from "fastify";
import type { ResultFile } from "../../protocol/result.ts";
import { isUnreadable, orUnreadable } from "../../protocol/stored.ts";
import { contentDisposition } from "../../storage/content-disposition.ts";
import { readState } from "../../requests/read-state.ts";
import { isResultLink } from "../../requests/result-link.ts";
import { conflict, HttpProblem, notFound } from "../http/errors.ts";
import { sendRepresentation, type Representation } from "../http/send-representation.ts";
import type { GatewayContext } from "../gateway-context.ts";

/** A presigned link has to live only as long as a client needs to follow it. */
const REDIRECT_MS = 300_000;
/** Of a file's sha256: 128 bits. */
const ETAG_DIGITS = 32;

interface LinkRequest {
  readonly Params: { readonly id: string; readonly file: string };
  readonly Querystring: { readonly exp?: unknown; readonly sig?: unknown };
}

/**
 * `GET /r/<id>/<file>?exp=&sig=`: the signature is the right; no key is needed. A file: store's object is streamed, an s3: one redirected to,
 * whatever the request's conditions: they are for the store to judge (RFC 9110, 13.2.1).
 */
export async function resultRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  app.route<LinkRequest>({
    method: ["GET", "HEAD"],
    url: "/r/:id/:file",
    handler: async (request, reply) => {
      const { id, file: name } = request.params;
      const { exp, sig } = request.query;
      const link = { id, file: name, expiresAt: Number(exp), signature: typeof sig === "string" ? sig : "" };
      if (!isResultLink(await context.secrets.get("result-links"), link, await context.requests.now()))
        throw new HttpProblem(403, { message: "The link is invalid or has expired." });
      const found = await orUnreadable(readState(context, id));
      if (isUnreadable(found)) throw conflict(`The request cannot be read by this version (${found.unreadable}).`);
      const file = found?.state.result?.files.find((each) => each.name === name);
      if (file === undefined) throw notFound();
      const { method } = request;
      const direct = await context.store.presign(file.key, {
        expiresInMs: REDIRECT_MS,
        downloadName: downloadName(id, file),
        ...(method === "HEAD" && { method }),
      });
      if (direct !== null) return reply.header("Cache-Control", "no-store").redirect(direct, 302);
      return sendRepresentation(request, reply, representationOf(context, { id, file, endedAt: found?.state.endedAt ?? null }));
    },
  });
}

function representationOf(
  { store }: GatewayContext,
  { id, file, endedAt }: { readonly id: string; readonly file: ResultFile; readonly endedAt: number | null },
): Representation {
  const { key, sha256, sizeBytes, contentType } = file;
  const isMedia = /^(?:image|audio|video)\//.test(contentType);
  return {
    etag: `"${sha256.slice(0, ETAG_DIGITS)}"`,
    modifiedAt: endedAt,
    sizeBytes,
    contentType,
    cacheControl: "private, max-age=86400, immutable",
    headers: isMedia ? {} : { "Content-Disposition": contentDisposition(downloadName(id, file)) },
    content: async (range) => {
      const object = await store.get(key, range === null ? {} : { range });
      if (object === null) throw notFound();
      return object.body;
    },
  };
}

function downloadName(id: string, file: ResultFile): string {
  return `${id}${extname(file.name)}`;
}
