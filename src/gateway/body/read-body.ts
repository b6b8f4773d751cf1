import { randomUUID } from "node:crypto";
import { rm } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { saveStream } from "../../lib/save-stream.ts";
import { HttpProblem, malformed, tooLarge, unsupported } from "../http/errors.ts";

/** A file of a multipart request, on this machine's disk until the response has gone. */
export interface Upload {
  /** The form's field name, without `[]`. */
  readonly field: string;
  readonly path: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface RequestBody {
  /** Values by name: JSON as it came, form values as texts; a name that came several times, or as `name[]`, has a list. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly uploads: readonly Upload[];
}

/** The whole request. Single kinds of files have lower limits of their own. */
export const MAX_REQUEST_BYTES: number = 75 * 1024 * 1024;
/** JSON and urlencoded bodies, and the fields of a form, are held in memory, so they get less. */
export const MAX_PLAIN_BYTES: number = 4 * 1024 * 1024;
const MAX_FILE_BYTES = 50 * 1024 * 1024;
const MAX_FILES = 16;
/** The longest list of texts that a task takes, and the fields beside it. */
const MAX_FIELDS = 2_048 + 52;

const folders = new WeakMap<FastifyRequest, string>();

/** Temporary files go when their response has gone, whatever became of it. */
export function installUploadCleanup(app: FastifyInstance): void {
  app.addHook("onResponse", (request, _reply, done) => dropUploads(request, done));
  app.addHook("onRequestAbort", dropUploads);
}

function dropUploads(request: FastifyRequest, done: () => void): void {
  const folder = folders.get(request);
  if (folder === undefined) return done();
  folders.delete(request);
  // A file that is being made meanwhile keeps its folder from going: then it is tried again.
  rm(folder, { recursive: true, force: true, maxRetries: 5 }, () => done());
}

/** JSON, urlencoded or multipart, as it came. @throws HttpProblem 400 | 413 | 415 */
export async function readBody(request: FastifyRequest): Promise<RequestBody> {
  if (request.isMultipart()) return readMultipart(request);
  const { body } = request;
  if (body === undefined || body === null) {
    if (request.headers["content-type"] === undefined) return { fields: {}, uploads: [] };
    throw malformed("The request body is empty.");
  }
  if (typeof body !== "object" || Array.isArray(body)) throw malformed("The request body must be an object.");
  return { fields: grouped(Object.entries(body)), uploads: [] };
}

/** What the parser throws of itself is a form that breaks off or is none; our own answers and the file system's errors pass. */
async function readMultipart(request: FastifyRequest): Promise<RequestBody> {
  try {
    return await readParts(request);
  } catch (thrown) {
    if (thrown instanceof HttpProblem || (thrown instanceof Error && ("statusCode" in thrown || "errno" in thrown))) throw thrown;
    throw malformed("The multipart body cannot be read.");
  }
}

async function readParts(request: FastifyRequest): Promise<RequestBody> {
  if (Number(request.headers["content-length"] ?? 0) > MAX_REQUEST_BYTES) throw tooLarge("The request is larger than 75 MB.");
  const folder = await mkdtemp(join(tmpdir(), "dryapi-upload-"));
  folders.set(request, folder);
  if (request.raw.destroyed) {
    // The client has left meanwhile, and the hooks have run.
    dropUploads(request, () => undefined);
    throw malformed("The request was broken off.");
  }
  const fields: [string, unknown][] = [];
  const uploads: Upload[] = [];
  const limits = {
    fileSize: MAX_FILE_BYTES,
    files: MAX_FILES,
    fields: MAX_FIELDS,
    fieldSize: MAX_PLAIN_BYTES,
    parts: MAX_FILES + MAX_FIELDS,
  };
  let left = MAX_REQUEST_BYTES;
  let plainLeft = MAX_PLAIN_BYTES;
  for await (const part of request.parts({ limits })) {
    if (part.type === "field") {
      plainLeft -= Buffer.byteLength(part.fieldname) + Buffer.byteLength(String(part.value));
      if (part.valueTruncated || plainLeft < 0) throw tooLarge("The fields of the form are too large.");
      fields.push([part.fieldname, part.value]);
      continue;
    }
    const upload = await store(part.file, join(folder, randomUUID()), left);
    if (part.file.truncated) throw tooLarge(`The ${nameOf(part.fieldname)} file is larger than 50 MB.`);
    left -= upload.sizeBytes;
    // Browsers send an empty file for a file field that was left alone.
    if (upload.sizeBytes > 0) uploads.push({ ...upload, field: nameOf(part.fieldname) });
  }
  return { fields: grouped(fields), uploads };
}

async function store(source: Readable, path: string, left: number): Promise<Omit<Upload, "field">> {
  const tooMuch = (): HttpProblem => tooLarge("The request is larger than 75 MB.");
  return { path, ...(await saveStream(source, path, { maxBytes: left, tooLarge: tooMuch, mode: 0o600 })) };
}

/** `name[]` is a list however often it came; prototype names are no fields of anybody. */
function grouped(entries: readonly (readonly [string, unknown])[]): Readonly<Record<string, unknown>> {
  const fields = new Map<string, unknown>();
  for (const [raw, value] of entries) {
    const name = nameOf(raw);
    if (name === "__proto__" || name === "constructor" || name === "prototype") continue;
    const before = fields.has(name) ? listOf(fields.get(name)) : [];
    if (raw.endsWith("[]")) fields.set(name, [...before, ...listOf(value)]);
    else fields.set(name, before.length > 0 ? [...before, value] : value);
  }
  return Object.fromEntries(fields);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [value];
}

function nameOf(field: string): string {
  return field.endsWith("[]") ? field.slice(0, -2) : field;
}

/** For routes that take no files. */
export async function readFields(request: FastifyRequest): Promise<Readonly<Record<string, unknown>>> {
  const { fields, uploads } = await readBody(request);
  if (uploads.length > 0) throw unsupported("This endpoint takes no files.");
  return fields;
}
