import { answer, failures, json, object, pathParameter, PUBLIC, query, ref, uuid, type Schema } from "./schema.ts";

const text = (type: string): Schema => ({ [type]: { schema: { type: "string" } } });
/** By the task and the format that was asked for. */
const RESULT_TYPES = [
  "application/octet-stream",
  "image/png",
  "image/jpeg",
  "image/webp",
  "audio/mpeg",
  "audio/wav",
  "audio/flac",
  "audio/ogg",
  "video/mp4",
  "text/plain",
  "application/json",
];
const binary: Schema = Object.fromEntries(RESULT_TYPES.map((type) => [type, { schema: { type: "string", format: "binary" } }]));

/** What needs no key: results, health, this document, the console. */
export function sitePaths({ consoleFiles }: { readonly consoleFiles: readonly string[] }): Readonly<Record<string, Schema>> {
  const page = (operationId: string, summary: string, content: Schema, more: Schema = {}): Schema => ({
    get: {
      tags: ["Site"],
      operationId,
      summary,
      ...PUBLIC,
      ...more,
      responses: { 200: { description: "OK", content }, ...(more["responses"] as Schema | undefined), ...failures(400, 500) },
    },
  });
  const cached = { responses: { 304: { description: "It is what If-None-Match names." } } };
  return {
    "/r/{id}/{file}": { get: result() },
    "/healthz": {
      get: {
        tags: ["Site"],
        operationId: "health",
        summary: "The gateway is up",
        ...PUBLIC,
        responses: { ...answer("Up.", object({ ok: { type: "boolean" } })), ...failures(400) },
      },
    },
    "/openapi.json": page("openapi", "This document", json({ type: "object" })),
    "/docs": page("docs", "The same for people", text("text/html")),
    "/docs/style.css": page("docsStyle", "How /docs looks", text("text/css"), cached),
    "/": page("console", "The console", text("text/html"), cached),
    "/console/{file}": page(
      "consoleFile",
      "A file of the console",
      { ...text("text/javascript"), ...text("text/css"), ...text("image/svg+xml") },
      {
        responses: { ...cached.responses, ...failures(404) },
        parameters: [pathParameter("file", { type: "string", enum: consoleFiles })],
      },
    ),
    "/console/settings.json": page("consoleSettings", "What the console must know", json(ref("ConsoleSettings"))),
  };
}

function result(): Schema {
  const range = { name: "Range", in: "header", schema: { type: "string" }, description: "One range of bytes (RFC 9110, 14.2)." };
  const headers = {
    ETag: { schema: { type: "string" } },
    "Accept-Ranges": { schema: { type: "string" } },
    "Content-Disposition": { description: "An attachment where it is no image, sound or film.", schema: { type: "string" } },
  };
  return {
    tags: ["Requests"],
    operationId: "result",
    summary: "A file of a result: follow the links of a request, their signature is the right",
    ...PUBLIC,
    parameters: [
      pathParameter("id", uuid, "The request's."),
      pathParameter("file", { type: "string", pattern: "^[^\\u0000/]+$" }),
      query("exp", { type: "integer", minimum: 0 }, { required: true, description: "When the link ends, unix seconds." }),
      query("sig", { type: "string", pattern: "^[^\\u0000]+$" }, { required: true }),
      range,
    ],
    responses: {
      200: { description: "The file.", headers, content: binary },
      206: {
        description: "The range of it.",
        headers: { ...headers, "Content-Range": { schema: { type: "string" } } },
        content: binary,
      },
      302: { description: "The file is in an S3 store.", headers: { Location: { schema: { type: "string", format: "uri" } } } },
      304: { description: "It has not changed." },
      412: { description: "If-Match or If-Unmodified-Since does not hold.", content: json(ref("Problem")) },
      ...failures(400, 403, 404, 409, 416, 500, 503),
    },
  };
}
