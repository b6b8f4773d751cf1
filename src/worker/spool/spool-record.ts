import { z } from "zod";
import { AppError } from "../../protocol/error.ts";
import { REQUEST_ID } from "../../protocol/job.ts";
import { spoolFileSchema, type Output, type Timings } from "../../protocol/result.ts";
import type { ClaimRef } from "../../queue/queue-types.ts";

export const SPOOL_VERSION = 1;

/** `claim.json`: what a restarted daemon needs to finish a claim or to hand it back. Written before the runner starts. */
export interface ClaimRecord extends ClaimRef {
  readonly v: number;
}

/** `complete.json`: the outputs are whole on disk. Everything of the result but the upload. */
export interface CompleteRecord extends Output {
  readonly v: number;
  readonly timings: Omit<Timings, "uploadMs">;
  readonly device: string;
  /** Unix milliseconds. */
  readonly completedAt: number;
}

export const claimSchema: z.ZodType<ClaimRecord> = z.object({
  v: z.literal(SPOOL_VERSION),
  id: z.string().regex(REQUEST_ID),
  queue: z.string().min(1),
  token: z.string().min(1),
  claim: z.number().int().positive(),
});

export const completeSchema: z.ZodType = z.object({
  v: z.literal(SPOOL_VERSION),
  files: z.array(spoolFileSchema).min(1),
  seed: z.number().nullable(),
  info: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  text: z.string().optional(),
  timings: z.object({
    queueMs: z.number(),
    loadMs: z.number(),
    inputMs: z.number(),
    runMs: z.number(),
    encodeMs: z.number(),
    wakeMs: z.number().optional(),
    parkMs: z.number().optional(),
  }),
  device: z.string(),
  completedAt: z.number(),
});

/** @throws AppError BAD_OUTPUT that names the file */
export function parseClaimRecord(text: string, path: string): ClaimRecord {
  return parseRecord(text, path, claimSchema);
}

/** @throws AppError BAD_OUTPUT that names the file */
export function parseCompleteRecord(text: string, path: string): CompleteRecord {
  return parseRecord(text, path, completeSchema) as CompleteRecord;
}

function parseRecord<T>(text: string, path: string, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new AppError("BAD_OUTPUT", `spool record ${path} is not JSON: ${String(cause)}`, {
      cause,
    });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AppError("BAD_OUTPUT", `spool record ${path} is invalid: ${z.prettifyError(parsed.error)}`);
}
