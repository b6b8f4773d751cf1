import { steadyNow } from "../../lib/steady-clock.ts";
import { HEALTHY, recordFault, recordProbeFailure, type DeviceHealth } from "../../core/device-health.ts";
import type { ErrorData } from "../../protocol/error.ts";

/** What took a device out of service. */
export type QuarantineCause =
  /** Different jobs had faults on it, with no success between them. */
  | { readonly kind: "jobs"; readonly jobs: readonly string[] }
  /** One job had, after an earlier quarantine that no success has ended. */
  | { readonly kind: "job"; readonly job: string }
  /** An idle runner did not answer. */
  | { readonly kind: "ping" }
  /** A runner could not use it. */
  | { readonly kind: "load"; readonly model: string }
  /** The proof of the device failed: at the start, after a quarantine, or while nothing ran on it. */
  | { readonly kind: "proof" };

type Failure = Pick<ErrorData, "code" | "message">;

export interface QuarantineNote {
  readonly device: string;
  /** By `steadyNow`: when it is proved anew. */
  readonly until: number;
  /** Quarantines since the last job that ended well on it, this one included. */
  readonly times: number;
  readonly cause: QuarantineCause;
  /** The last failure. */
  readonly error: Failure;
}

/** Remembers on which devices jobs end in faults: one on which different jobs did, or that fails its proof, is taken out of service for a while. */
export class DeviceWatch {
  readonly #health = new Map<string, DeviceHealth>();
  readonly #notes = new Map<string, QuarantineNote>();
  readonly #onQuarantine: (note: QuarantineNote) => void;

  constructor(onQuarantine: (note: QuarantineNote) => void) {
    this.#onQuarantine = onQuarantine;
  }

  /** True when the device, not the job, is to blame. */
  faulted(device: string, job: string, error: Failure): boolean {
    const before = this.#of(device);
    const cause: QuarantineCause =
      before.quarantines > 0 ? { kind: "job", job } : { kind: "jobs", jobs: [...new Set([...before.faulted, job])] };
    return this.#take(device, recordFault(before, { job, at: steadyNow() }), cause, error);
  }

  /** The device failed with no job in it. */
  probeFailed(device: string, cause: Exclude<QuarantineCause, { kind: "jobs" | "job" }>, error: Failure): void {
    this.#take(device, recordProbeFailure(this.#of(device), steadyNow()), cause, error);
  }

  succeeded(device: string): void {
    this.#health.set(device, HEALTHY);
  }

  /** It passed its proof after its quarantine. What it did before is forgotten only once a job ends well on it. */
  released(device: string): void {
    this.#notes.delete(device);
  }

  /** Why it is out of service; undefined while it is not. */
  noteOf(device: string): QuarantineNote | undefined {
    return this.#notes.get(device);
  }

  #of(device: string): DeviceHealth {
    return this.#health.get(device) ?? HEALTHY;
  }

  #take(device: string, verdict: ReturnType<typeof recordFault>, cause: QuarantineCause, error: Failure): boolean {
    this.#health.set(device, verdict.health);
    if (verdict.quarantineUntil !== null) {
      const note = { device, until: verdict.quarantineUntil, times: verdict.health.quarantines, cause, error };
      this.#notes.set(device, note);
      this.#onQuarantine(note);
    }
    return verdict.blamed;
  }
}

/** What happened, as the log and readiness say it. */
export function quarantineText({ cause, error, times }: QuarantineNote): string {
  const often = times > 1 ? ` (out of service for the ${ordinal(times)} time since a job last ended well on it)` : "";
  return `${causeText(cause)}: ${error.code}: ${error.message}${often}`;
}

function causeText(cause: QuarantineCause): string {
  switch (cause.kind) {
    case "jobs":
      return `${cause.jobs.length} different jobs failed on it (${cause.jobs.join(", ")}), the last with`;
    case "job":
      return `job ${cause.job} failed on it again`;
    case "ping":
      return "an idle runner on it did not answer its ping";
    case "load":
      return `the runner of model ${cause.model} could not use it`;
    case "proof":
      return "it failed its proof";
  }
}

function ordinal(count: number): string {
  const ending = count % 100 >= 11 && count % 100 <= 13 ? "th" : (["th", "st", "nd", "rd"][count % 10] ?? "th");
  return `${count}${ending}`;
}
