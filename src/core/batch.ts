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
