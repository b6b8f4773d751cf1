import type { ErrorCode } from "./error.ts";

export const EVENT_VERSION = 1;

/**
 * What a worker publishes for one request on `{p}:events:<client>` and keeps as the last value in the hash `{p}:live:<id>`.
 * `seq` grows by one per published event of a request (assigned inside Redis, over all claims); `claim` is the claim number
 * (BullMQ's attemptsStarted): a receiver drops events whose claim is lower than the highest it saw.
 */
export interface JobEvent {
  readonly v: number;
  readonly seq: number;
  readonly id: string;
  readonly claim: number;
  /** Unix milliseconds by Redis' clock, of its publishing. */
  readonly at: number;
  readonly type: "processing" | "progress" | "preview" | "done" | "error" | "requeued";
  /** 0..100; never falls within a claim. */
  readonly progress: number;
  readonly stage?: string;
  readonly step?: number;
  readonly steps?: number;
  /** Base64 JPEG, at most 16 KiB before encoding; only on `preview`. */
  readonly preview?: string;
  readonly errorCode?: ErrorCode;
  /** What clients read. */
  readonly errorMessage?: string;
  /** The field of the request that is to blame; not of every worker's version. */
  readonly errorField?: string;
  /** Only on `done`, and not of every worker's version: what a link to the result is made of, so that nobody asks Redis for it. */
  readonly result?: EventResult;
}

export interface EventResult {
  /** Name and object key of the main file. */
  readonly name: string;
  readonly key: string;
  /** Of the request, unix milliseconds. */
  readonly createdAt: number;
}

/** As a worker hands it to the emit script, which adds the rest. */
export type JobEventDraft = Omit<JobEvent, "seq" | "v" | "at">;

const TYPES: ReadonlySet<unknown> = new Set<JobEvent["type"]>(["processing", "progress", "preview", "done", "error", "requeued"]);

/** Null for a text that is no event, or one of a version that is not known here. */
export function parseEvent(text: string): JobEvent | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { v, id, seq, claim, at, type, progress, preview, stage, step, steps, result, errorMessage, errorField } = value as Readonly<
    Record<string, unknown>
  >;
  const isEvent =
    v === EVENT_VERSION &&
    typeof id === "string" &&
    [seq, claim, at, progress].every((number) => typeof number === "number") &&
    [step, steps].every((number) => number === undefined || typeof number === "number") &&
    [preview, stage, errorMessage, errorField].every((text) => text === undefined || typeof text === "string") &&
    TYPES.has(type) &&
    (result === undefined || isEventResult(result));
  return isEvent ? (value as JobEvent) : null;
}

function isEventResult(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { name, key, createdAt } = value as Readonly<Record<string, unknown>>;
  return typeof name === "string" && typeof key === "string" && typeof createdAt === "number";
}

/** Bytes of JPEG in one preview and previews a second and job: slow subscribers cost nobody else. */
export const MAX_PREVIEW_BYTES: number = 16 * 1024;
export const MAX_PREVIEWS_PER_SECOND = 4;
