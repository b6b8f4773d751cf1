import { gzip } from "node:zlib";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

/** Less than this fits one packet, and is sent sooner as it is. */
export const MIN_COMPRESSED_BYTES = 1_400;
const TEXTS = /^(?:application\/(?:[\w.+-]+\+)?json|text\/(?:html|css|javascript|plain)|image\/svg\+xml)\b/;

/**
 * Big texts go out as gzip, the one coding that every client knows, where the client takes it: lists, OpenAPI, pages. Results are streams and
 * are left as they are: media, and files whose ranges and tags are those of the stored bytes.
 * An attacker who can make somebody's browser ask for a page, and put his own text into it, could learn secrets from its length (BREACH).
 * Nobody's browser asks here with somebody's key: it is a header that only programs and our own console send.
 */
export function installCompression(app: FastifyInstance): void {
  app.addHook("onSend", (request, reply, payload, done) => {
    const bytes = typeof payload === "string" ? Buffer.byteLength(payload) : Buffer.isBuffer(payload) ? payload.length : 0;
    if (bytes < MIN_COMPRESSED_BYTES || !isText(reply)) return done(null, payload);
    reply.header("Vary", varied(reply.getHeader("vary")));
    if (!acceptsGzip(request)) return done(null, payload);
    gzip(payload as string | Buffer, (error, zipped) => {
      if (error !== null) return done(error);
      reply.header("Content-Encoding", "gzip").removeHeader("Content-Length").removeHeader("Accept-Ranges");
      const etag = reply.getHeader("etag");
      // Other bytes than the ones that the tag names, for the same content.
      if (typeof etag === "string" && !etag.startsWith("W/")) reply.header("ETag", `W/${etag}`);
      return done(null, zipped);
    });
  });
}

function isText(reply: FastifyReply): boolean {
  const { statusCode } = reply;
  if (statusCode === 206 || statusCode === 304 || reply.getHeader("content-encoding") !== undefined) return false;
  return TEXTS.test(String(reply.getHeader("content-type") ?? ""));
}

function varied(before: unknown): string {
  const names = typeof before === "string" ? before : "";
  if (/(?:^|,)\s*(?:\*|accept-encoding)\s*(?:,|$)/i.test(names)) return names;
  return names === "" ? "Accept-Encoding" : `${names}, Accept-Encoding`;
}

function acceptsGzip({ headers }: FastifyRequest): boolean {
  const given = headers["accept-encoding"];
  return given !== undefined && weightOf(Array.isArray(given) ? given.join(",") : given, "gzip") > 0;
}

/** How much a coding is wanted by an `Accept-Encoding` (RFC 9110, 12.5.3): 0 = not at all. Its own entry goes before the star's. */
export function weightOf(header: string, coding: string): number {
  let star = 0;
  for (const entry of header.toLowerCase().split(",")) {
    const [name = "", ...parameters] = entry.split(";").map((part) => part.trim());
    const quality = parameters.map((each) => /^q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.exec(each)?.[1]).find((each) => each !== undefined);
    const weight = Number(quality ?? 1);
    if (name === coding || name === `x-${coding}`) return weight;
    if (name === "*") star = weight;
  }
  return star;
}
