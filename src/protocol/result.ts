import { serialize } from "node:v8";
import { z } from "zod";
import { jsonBytes } from "../lib/clip-text.ts";
import { readStored, storedJson } from "./stored.ts";

/** Where a job's time went, milliseconds. `queueMs` is submit -> claim; `runMs` is inside the pipeline without encoding. */
export interface Timings {
  readonly queueMs: number;
  readonly loadMs: number;
  readonly inputMs: number;
  readonly runMs: number;
  readonly encodeMs: number;
  readonly uploadMs: number;
  /** Inside `runMs`: opening parts of the model again that had made room for others. Absent where all of them stay. */
  readonly wakeMs?: number;
  /** Inside `runMs`: releasing parts so that others have room. */
  readonly parkMs?: number;
}

/** `main` is what `result_url` names; `alt` are the same content in other formats (`results_alt_formats`). */
export type FileRole = "main" | "alt" | "extra";

/** A file that the runner wrote to the spool. */
export interface SpoolFile {
  readonly name: string;
  readonly role: FileRole;
  readonly contentType: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

/** The same file once it is in the object store, key `outputs/<id>/<claim>/<name>`. */
export interface ResultFile extends SpoolFile {
  readonly key: string;
}

export const RESULT_VERSION = 1;

/**
 * Largest text inside a result, as JSON and as a message between processes, whichever is larger. A result passes a message (64 KiB, see
 * ipc.ts), a record in the spool and a BullMQ job; all that stands beside the text is bounded to less than the rest of 64 KiB.
 */
export const MAX_INLINE_TEXT_BYTES: number = 48 * 1024;
export const MAX_RESULT_FILES = 16;
/** Facts of a result, as JSON. */
export const MAX_INFO_BYTES: number = 4 * 1024;

/** Whether a text may stand inside a result. A message takes two bytes a character once a single one is beyond Latin-1. */
export function fitsInline(text: string): boolean {
  return text.length <= MAX_INLINE_TEXT_BYTES && Math.max(jsonBytes(text), serialize(text).byteLength) <= MAX_INLINE_TEXT_BYTES;
}

/** What a run makes of a job: the part that stays the same from the pipeline to the client. */
export interface Output {
  readonly files: readonly SpoolFile[];
  readonly seed: number | null;
  /** Facts of the output: width, height, frames, duration_s ... */
  readonly info: Readonly<Record<string, string | number | boolean>>;
  /**
   * The text, only when the request asked for it (`return_result_in_response`) and it has at most MAX_INLINE_TEXT_BYTES; a longer one is in
   * the file alone, and `info.text_omitted` is true.
   */
  readonly text?: string;
}

/** The return value of a completed BullMQ job. Small: bytes are in the object store. */
export interface JobResult extends Output {
  readonly v: number;
  readonly files: readonly ResultFile[];
  readonly claim: number;
  readonly timings: Timings;
  readonly worker: string;
  readonly device: string;
  readonly finishedAt: number;
}

const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const spoolFile = z.object({
  name: z.string().regex(NAME),
  role: z.enum(["main", "alt", "extra"]),
  contentType: z.string().min(3).max(128),
  sizeBytes: z.number().int().nonnegative(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
});

export const spoolFileSchema: z.ZodType<SpoolFile> = spoolFile;

const milliseconds = z.number();

export const resultSchema: z.ZodType<JobResult> = z.object({
  v: z.int(),
  files: z.array(spoolFile.extend({ key: z.string().min(1) })),
  claim: z.number(),
  seed: z.number().nullable(),
  timings: z.object({
    queueMs: milliseconds,
    loadMs: milliseconds,
    inputMs: milliseconds,
    runMs: milliseconds,
    encodeMs: milliseconds,
    uploadMs: milliseconds,
    wakeMs: milliseconds.exactOptional(),
    parkMs: milliseconds.exactOptional(),
  }),
  info: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  text: z.string().exactOptional(),
  worker: z.string(),
  device: z.string(),
  finishedAt: z.number(),
});

/** Reads the return value of job `id`. @throws AppError RECORD_UNREADABLE */
export function parseJobResult(id: string, json: string): JobResult {
  return readStored(`the result of request ${id}`, { schema: resultSchema, newest: RESULT_VERSION }, storedJson(json));
}
