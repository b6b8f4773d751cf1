import type { JobInput, JobParams } from "./job.ts";
import type { Task } from "./task.ts";

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

export type Status = "pending" | "processing" | "done" | "error";
