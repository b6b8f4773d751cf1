import type { Manifest } from "../protocol/manifest.ts";

/** Stages that a runner reports before each blocking call of a load, e.g. `load:transformer`. */
const LOAD_STAGE = /^load(:|$)/;

/**
 * How long a stage may go without a sign of life before its runner is taken for hung, milliseconds. First of: what the runner asked
 * for itself, the manifest's word on that stage, its load time for stages of a load, its default.
 */
export function stageDeadlineMs({ deadlines }: Pick<Manifest, "deadlines">, stage: string, asked?: number): number {
  return asked ?? deadlines.stageMs[stage] ?? (LOAD_STAGE.test(stage) ? deadlines.loadMs : deadlines.defaultMs);
}

/** What a job has left of its time limit, which runs from its first dispatch over all its claims; 0 when it is over. */
export function jobTimeLeftMs(job: { readonly timeoutMs: number; readonly startedAt: number | null }, at: number): number {
  return job.startedAt === null ? job.timeoutMs : Math.min(job.timeoutMs, Math.max(0, job.startedAt + job.timeoutMs - at));
}
