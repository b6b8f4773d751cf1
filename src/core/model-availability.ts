import { ERROR_TABLE, isErrorCode, type ErrorCode } from "../protocol/error.ts";

/** A model that a worker is meant to serve and cannot: what it says of it in its announcement. */
export interface UnusableModel {
  readonly model: string;
  readonly code: ErrorCode;
  /** The worker's own words, for operators: they name files. */
  readonly message: string;
  /** Unix milliseconds by the worker's clock: for people, never for a decision. */
  readonly since: number;
}

/** What a live worker says of its models. */
export interface AnnouncedModels {
  readonly worker: string;
  readonly models: readonly string[];
  readonly draining: boolean;
  /** Absent in what older workers announce. */
  readonly unusable?: readonly UnusableModel[];
}

/**
 *   usable     a live worker serves the model
 *   away       no live worker has it: they may come back
 *   unusable   every live worker that has it reports that it cannot load it
 */
export type ModelAvailability =
  | { readonly kind: "usable" }
  | { readonly kind: "away" }
  | { readonly kind: "unusable"; readonly code: ErrorCode; readonly message: string; readonly since: number };

/**
 * Whether jobs of a model can run, from what live workers announce. A worker that drains takes no more jobs, so it makes nothing usable; it
 * had the model whole all the same, so the model counts as away and not as unusable.
 */
export function modelAvailability(model: string, workers: readonly AnnouncedModels[]): ModelAvailability {
  const serving = workers.filter(({ models }) => models.includes(model));
  if (serving.some(({ draining }) => !draining)) return { kind: "usable" };
  const reports = workers.filter(({ draining }) => !draining).flatMap((worker) => reportOf(worker, model));
  const [first] = reports;
  if (first === undefined || serving.length > 0) return { kind: "away" };
  const more = reports.length - 1;
  const others = more > 0 ? ` (and ${more} more worker${more === 1 ? "" : "s"})` : "";
  return {
    kind: "unusable",
    code: first.code,
    message: `worker ${first.worker}${others}: ${first.message}`,
    // Since then all of them have found it so.
    since: Math.max(...reports.map(({ since }) => since)),
  };
}

/** Announcements come from other programs, of other versions: what is not understood is no report. */
function reportOf({ worker, unusable }: AnnouncedModels, model: string): readonly (UnusableModel & { readonly worker: string })[] {
  const reports: readonly unknown[] = Array.isArray(unusable) ? unusable : [];
  const found = reports.filter(isReport).find((each) => each.model === model);
  return found === undefined ? [] : [{ ...found, worker }];
}

function isReport(value: unknown): value is UnusableModel {
  if (typeof value !== "object" || value === null) return false;
  const { model, code, message, since } = value as Partial<Record<keyof UnusableModel, unknown>>;
  return typeof model === "string" && isErrorCode(code) && typeof message === "string" && Number.isFinite(since);
}

/** Why a request waits although its turn has come. */
export interface WaitReason {
  readonly code: ErrorCode;
  /** What a client may read. */
  readonly publicText: string;
  /** For operators: with the worker's own words. */
  readonly message: string;
}

/** Null when the model can run: then the request only waits for its turn. */
export function waitReason(availability: Exclude<ModelAvailability, { kind: "usable" }>): WaitReason;
export function waitReason(availability: ModelAvailability): WaitReason | null;
export function waitReason(availability: ModelAvailability): WaitReason | null {
  switch (availability.kind) {
    case "usable":
      return null;
    case "away": {
      const text = "No worker that serves the model is up.";
      return { code: "CAPACITY_UNAVAILABLE", publicText: text, message: text };
    }
    case "unusable": {
      const { code, message, since } = availability;
      const publicText = `No worker can load the model: ${WHY[code] ?? lowerFirst(ERROR_TABLE[code].publicText)}`;
      return { code, publicText, message: `no worker can load the model since ${new Date(since).toISOString()}; ${message}` };
    }
  }
}

/** Where the table's own text, which is for requests, does not tell it from other trouble. */
const WHY: Readonly<Partial<Record<ErrorCode, string>>> = {
  MODEL_NOT_FOUND: "files of it are missing on the worker.",
};

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
