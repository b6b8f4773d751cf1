import { z } from "zod";
import { inputSchema, type JobInput, type JobParams } from "./job.ts";
import { unixMs } from "./stored.ts";
import { TASK_NAMES, type Task } from "./task.ts";

export const REQUEST_VERSION = 1;

/**
 * The request record, Redis hash `{p}:req:<id>`: written before the job is added, so that a crash between the two is found and repaired.
 * Scalars are one hash field each; `params` and `inputs` are JSON. Empty = absent. Kept for the retention time (72 h).
 */
export interface RequestRecord {
  readonly v: number;
  readonly id: string;
  readonly queue: string;
  readonly client: string;
  readonly task: Task;
  readonly model: string;
  readonly params: JobParams;
  readonly inputs: readonly JobInput[];
  readonly priority: number;
  readonly timeoutMs: number;
  readonly webhookUrl: string | null;
  /** Name of the stored secret, never the secret. */
  readonly webhookSecretRef: string | null;
  /** Unix milliseconds. */
  readonly createdAt: number;
  /** First claim that dispatched it; never cleared, so status never goes back to pending. */
  readonly startedAt: number | null;
  readonly cancelledAt: number | null;
}

/** As it comes out of the hash, texts turned into values. */
export const requestSchema: z.ZodType<RequestRecord> = z.object({
  v: z.int(),
  id: z.string(),
  // BullMQ throws for other names.
  queue: z.string().regex(/^[^:]+$/),
  client: z.string().min(1),
  task: z.enum(TASK_NAMES),
  model: z.string().min(1),
  // As it came out of JSON: `__proto__` is a name like any other.
  params: z.custom<JobParams>((value) => typeof value === "object" && value !== null && !Array.isArray(value), "expected an object"),
  inputs: z.array(inputSchema),
  priority: z.number(),
  timeoutMs: z.number().positive(),
  webhookUrl: z.string().nullable(),
  webhookSecretRef: z.string().nullable(),
  createdAt: unixMs,
  startedAt: unixMs.nullable(),
  cancelledAt: unixMs.nullable(),
});

export type Status = "pending" | "processing" | "done" | "error";
