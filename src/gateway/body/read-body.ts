import { randomUUID } from "node:crypto";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { FastifyRequest } from "fastify";
import { isAbsent } from "../../core/field-value.ts";
import { FILE_FIELDS } from "../../core/task-fields.ts";
import { saveStream } from "../../lib/save-stream.ts";
import { findTextProblem } from "../../lib/strict-text.ts";
import { HttpProblem, malformed, tooLarge, unsupported, type FieldErrors } from "../http/errors.ts";
import { notAFile } from "./data-uri.ts";
import { firstBytes } from "./first-bytes.ts";
import { baseName, grouped } from "./form-names.ts";
import { JsonFileScanner } from "./json-file-scanner.ts";
import { badText, unreadJson, type UnreadJson } from "./parse-plain-bodies.ts";
import { DataUriFile, saveDataUri } from "./save-data-uri.ts";
import { MAX_FILE_BYTES, MAX_FILES, MAX_PLAIN_BYTES, MAX_REQUEST_BYTES, type Upload } from "./upload.ts";
import { uploadFolder } from "./upload-folders.ts";

export interface RequestBody {
  /** Values by name: JSON as it came, form values as texts; a name that came several times, or as `name[]`, has a list. */
  readonly fields: Readonly<Record<string, unknown>>;
  readonly uploads: readonly Upload[];
  /** What is wrong with values that should be files: texts by field, in the words of the 422. */
  readonly fileErrors: FieldErrors;
}

/** The longest list of texts that a task takes, and the fields beside it. */
const MAX_FIELDS = 2_048 + 52;
/** JSON up to here is read at once: most is far smaller, and so much for each of many senders is little. */
const SMALL_JSON_BYTES = 256 * 1024;
/** Names that files come under. */
const FILES: ReadonlySet<string> = new Set([...FILE_FIELDS, "source_file"]);

/** A body of a route that takes files: JSON with data URIs, urlencoded or multipart. @throws HttpProblem 400 | 413 | 415 */
export async function readTaskBody(request: FastifyRequest): Promise<RequestBody> {
  const { fields, ...body } = await readBody(request);
  const rest: Record<string, unknown> = { ...fields };
  const uploads = [...body.uploads];
  const fileErrors = new Map(Object.entries(body.fileErrors));
  // A plus that a form did not encode has become a space, which base64 has none of.
  const isForm = request.headers["content-type"]?.startsWith("application/x-www-form-urlencoded") === true;
  // Nothing stands for no file within a JSON list.
  const isJson = request.headers["content-type"]?.includes("json") === true;
  for (const name of FILES) {
    const given = Object.hasOwn(rest, name) ? rest[name] : undefined;
    const values = isAbsent(given) ? [] : listOf(given).filter((value) => isJson || !isAbsent(value));
    delete rest[name];
    for (const value of values) {
      const file =
        typeof value === "string"
          ? await saveDataUri(name, isForm ? value.replaceAll(" ", "+") : value, () => uploadFolder(request))
          : { problem: notAFile() };
      take(file, name, uploads, fileErrors);
    }
  }
  return { fields: rest, uploads, fileErrors: Object.fromEntries(fileErrors) };
}

/** @throws HttpProblem 413 for too many */
function take(
  file: Awaited<ReturnType<typeof saveDataUri>>,
  name: string,
  uploads: Upload[],
  errors: Map<string, readonly string[]>,
): void {
  if (file === null) return;
  if ("problem" in file) errors.set(name, [`The ${name} field ${file.problem}`]);
  else uploads.push(file);
  if (uploads.length > MAX_FILES) throw tooLarge(`The request has more than ${MAX_FILES} files.`);
}

/** JSON, urlencoded or multipart, as it came. @throws HttpProblem 400 | 413 | 415 */
export async function readBody(request: FastifyRequest): Promise<RequestBody> {
  if (request.isMultipart()) return readMultipart(request);
  const json = unreadJson(request);
  if (json !== undefined) return readJson(request, json);
  const { body } = request;
  if (body === undefined || body === null) {
    if (request.headers["content-type"] === undefined) return NOTHING;
    throw malformed("The request body is empty.");
  }
  return { ...NOTHING, fields: fieldsOf(body) };
}

const NOTHING: RequestBody = { fields: {}, uploads: [], fileErrors: {} };

/** Small JSON is read at once; of a large one the files go to the disk while it comes, and memory holds the rest. */
async function readJson(request: FastifyRequest, { source, parse }: UnreadJson): Promise<RequestBody> {
  if (Number(request.headers["content-length"] ?? 0) > MAX_REQUEST_BYTES) throw tooLarge("The request is larger than 75 MB.");
  const { chunks, isWhole } = await firstBytes(source, SMALL_JSON_BYTES).catch((thrown: unknown) => {
    throw thrown instanceof HttpProblem ? thrown : malformed("The request was broken off.");
  });
  if (isWhole) return { ...NOTHING, fields: fieldsOf(await parse(Buffer.concat(chunks))) };
  const uploads: Upload[] = [];
  const fileErrors = new Map<string, readonly string[]>();
  let open: DataUriFile | null = null;
  const scanner = new JsonFileScanner({
    maxPlainBytes: MAX_PLAIN_BYTES,
    tooLarge: () => tooLarge("The request without its files is larger than 4 MB."),
    open: (field) => {
      const name = baseName(field);
      if (!FILES.has(name)) return null;
      const file = (open = new DataUriFile(name, () => uploadFolder(request)));
      return { write: (text) => file.write(text), end: async () => take(await file.end(), name, uploads, fileErrors) };
    },
  });
  let left = MAX_REQUEST_BYTES;
  const scan = async (chunk: Buffer): Promise<void> => {
    left -= chunk.length;
    if (left < 0) throw tooLarge("The request is larger than 75 MB.");
    await scanner.write(chunk);
  };
  try {
    for (const chunk of chunks) await scan(chunk);
    for await (const chunk of source.iterator({ destroyOnReturn: false })) await scan(chunk as Buffer);
  } catch (thrown) {
    // What still comes is read and dropped: a client that is sending would see its connection break, and no answer.
    source.resume();
    throw thrown instanceof HttpProblem || (thrown instanceof Error && "errno" in thrown && !source.destroyed)
      ? thrown
      : malformed("The request was broken off.");
  } finally {
    await (open as DataUriFile | null)?.close();
  }
  return { fields: fieldsOf(await parse(scanner.end())), uploads, fileErrors: Object.fromEntries(fileErrors) };
}

function fieldsOf(body: unknown): Readonly<Record<string, unknown>> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) throw malformed("The request body must be an object.");
  return grouped(Object.entries(body));
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
  const folder = await uploadFolder(request);
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
    requireText(part.fieldname, part.fieldname);
    if (part.type === "field") {
      requireText(part.fieldname, String(part.value));
      plainLeft -= Buffer.byteLength(part.fieldname) + Buffer.byteLength(String(part.value));
      if (part.valueTruncated || plainLeft < 0) throw tooLarge("The fields of the form are too large.");
      fields.push([part.fieldname, part.value]);
      continue;
    }
    const upload = await store(part.file, join(folder, randomUUID()), left);
    if (part.file.truncated) throw tooLarge(`The ${baseName(part.fieldname)} file is larger than 50 MB.`);
    left -= upload.sizeBytes;
    // Browsers send an empty file for a file field that was left alone.
    if (upload.sizeBytes > 0) uploads.push({ ...upload, field: baseName(part.fieldname) });
  }
  const problem = findTextProblem(Object.fromEntries(fields));
  if (problem !== null) throw badText(problem);
  return { fields: grouped(fields), uploads, fileErrors: {} };
}

/** The parser puts U+FFFD for bytes that are no UTF-8. */
function requireText(name: string, text: string): void {
  if (text.includes("\uFFFD"))
    throw malformed(`The request body is not valid UTF-8: ${JSON.stringify(name)} holds U+FFFD, which stands for bytes that are none.`);
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as readonly unknown[]) : [value];
}

async function store(source: Readable, path: string, left: number): Promise<Omit<Upload, "field">> {
  const tooMuch = (): HttpProblem => tooLarge("The request is larger than 75 MB.");
  return { path, ...(await saveStream(source, path, { maxBytes: left, tooLarge: tooMuch, mode: 0o600 })) };
}

/** For routes that take no files. */
export async function readFields(request: FastifyRequest): Promise<Readonly<Record<string, unknown>>> {
  const { fields, uploads } = await readBody(request);
  if (uploads.length > 0) throw unsupported("This endpoint takes no files.");
  return fields;
}
