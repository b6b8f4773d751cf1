import { canonicalJson } from "../lib/canonical-json.ts";
import type { JobData } from "../protocol/job.ts";
import type { Manifest } from "../protocol/manifest.ts";

export type BatchMember = Pick<JobData, "task" | "params">;
export type BatchRule = Pick<Manifest, "batch">;

/** What must be equal within one run: the task and the parameters that the manifest names; an absent one equals null. */
function batchKey(job: BatchMember, { batch }: BatchRule): string {
  return canonicalJson([job.task, ...batch.by.map((name) => job.params[name] ?? null)]);
}

/** Whether two jobs of one model may share a run. */
export function compatibleWith(a: BatchMember, b: BatchMember, manifest: BatchRule): boolean {
  return manifest.batch.max > 1 && batchKey(a, manifest) === batchKey(b, manifest);
}

/**
 * Claimed jobs of one model as the runs they make up: the members of a run agree on the manifest's `batch.by` and are at most
 * `batch.max`. Jobs keep their order within a run, runs are in the order of their first jobs.
 */
export function planBatch<T extends BatchMember>(jobs: readonly T[], manifest: BatchRule): readonly (readonly T[])[] {
  const groups: T[][] = [];
  const open = new Map<string, T[]>();
  for (const job of jobs) {
    const key = batchKey(job, manifest);
    const group = open.get(key);
    if (group !== undefined && group.length < manifest.batch.max) {
      group.push(job);
    } else {
      const fresh = [job];
      groups.push(fresh);
      open.set(key, fresh);
    }
  }
  return groups;
}
