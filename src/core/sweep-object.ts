import type { RequestRecord } from "../protocol/request.ts";
import { RESULT_VERSION, type JobResult } from "../protocol/result.ts";
import { deriveStatus, type EndView } from "./job-state.ts";

/** What an object in the store belongs to, by its key. */
export interface StoredObjectName {
  /** `check`: the probe of a start or of `dryapi doctor`. */
  readonly kind: "input" | "output" | "check";
  /** Request id; empty for a check. */
  readonly id: string;
}

const OBJECT = /^(?<kind>inputs|outputs)\/(?<id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\/./;

/** Null for a key of any other shape: it is not ours. */
export function parseObjectName(key: string): StoredObjectName | null {
  if (/^checks\/[0-9a-f]{16}$/.test(key)) return { kind: "check", id: "" };
  const { kind, id } = OBJECT.exec(key)?.groups ?? {};
  return id === undefined ? null : { kind: kind === "inputs" ? "input" : "output", id };
}

/**
 *   open       it goes on, or may: its job waits or is held, or is still to be queued
 *   ended      for good; `keys` are what its result names, none unless a client is told `done`
 *   unknown    there is no record of it: never submitted, not yet recorded, or past its retention
 *   unreadable its record or job is of another version, or damaged
 */
export type SweptRequest =
  | { readonly kind: "open" }
  | { readonly kind: "ended"; readonly keys: ReadonlySet<string> }
  | { readonly kind: "unknown" }
  | { readonly kind: "unreadable" };

/** A cancelled request has ended for its client at once, and for the store once no worker can hold its job any more. */
export function sweptRequest(record: RequestRecord | null, job: EndView | null): SweptRequest {
  if (record === null) return { kind: "unknown" };
  if (job === null) return record.cancelledAt === null ? { kind: "open" } : { kind: "ended", keys: new Set() };
  if (job.state !== "completed" && job.state !== "failed") return { kind: "open" };
  const { error } = deriveStatus({ record, job, live: null });
  if (job.state === "failed" || error?.code === "CANCELLED") return { kind: "ended", keys: new Set() };
  const keys = resultKeys(job.result);
  return keys === null ? { kind: "unreadable" } : { kind: "ended", keys };
}

/** Null for a result that a newer program wrote, or a damaged one: what it names is not known then. */
function resultKeys(result: JobResult | null): ReadonlySet<string> | null {
  if (!(Number(result?.v) <= RESULT_VERSION) || !Array.isArray(result?.files)) return null;
  const keys = (result.files as readonly unknown[]).map((file) => (file as Partial<JobResult["files"][number]> | null)?.key);
  return keys.every((key) => typeof key === "string") ? new Set(keys) : null;
}

export type SweepReason = "ended-input" | "unnamed-output" | "unknown-request" | "check";
export type SweepDecision = { readonly keep: true } | { readonly keep: false; readonly reason: SweepReason };

const KEEP: SweepDecision = { keep: true };

export interface SweptObject {
  readonly key: string;
  readonly name: StoredObjectName;
  /** By the store's own clock. */
  readonly ageMs: number;
  readonly request: SweptRequest;
}

/** Over the retention: an object is younger than its request, and clocks of records and stores differ. */
export const SWEEP_MARGIN_MS = 3_600_000;

/**
 * What the sweep does with one object. It takes away what nobody can need any more and nothing else: whatever is not certain stays until it is
 * so old that no request can stand behind it.
 *
 *   input   of an ended request: its retries are over, and webhooks need the result alone
 *   output  of an ended request that its result does not name: a late claim's, a cancelled job's
 *   any     of an unknown request, once it is older than the retention; never without one (`null`: other systems share the store)
 */
export function decideSweep({ key, name, ageMs, request }: SweptObject, retentionMs: number | null): SweepDecision {
  if (name.kind === "check") return ageMs > SWEEP_MARGIN_MS ? { keep: false, reason: "check" } : KEEP;
  switch (request.kind) {
    case "open":
    case "unreadable":
      return KEEP;
    case "unknown":
      return retentionMs !== null && ageMs > retentionMs + SWEEP_MARGIN_MS ? { keep: false, reason: "unknown-request" } : KEEP;
    case "ended":
      if (name.kind === "input") return { keep: false, reason: "ended-input" };
      return request.keys.has(key) ? KEEP : { keep: false, reason: "unnamed-output" };
  }
}
