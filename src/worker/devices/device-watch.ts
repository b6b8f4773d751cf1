import { steadyNow } from "../../lib/steady-clock.ts";
import { HEALTHY, recordFault, recordProbeFailure, type DeviceHealth } from "../../core/device-health.ts";

export interface QuarantineNote {
  readonly device: string;
  /** By `steadyNow`. */
  readonly until: number;
}

/** Remembers on which devices jobs end in faults: one on which different jobs did is taken out of service for a while. */
export class DeviceWatch {
  readonly #health = new Map<string, DeviceHealth>();
  readonly #onQuarantine: (note: QuarantineNote) => void;

  constructor(onQuarantine: (note: QuarantineNote) => void) {
    this.#onQuarantine = onQuarantine;
  }

  /** True when the device, not the job, is to blame. */
  faulted(device: string, job: string): boolean {
    return this.#take(device, recordFault(this.#of(device), { job, at: steadyNow() }));
  }

  /** A runner did not answer a ping, though no job was in it. */
  probeFailed(device: string): void {
    this.#take(device, recordProbeFailure(this.#of(device), steadyNow()));
  }

  succeeded(device: string): void {
    this.#health.set(device, HEALTHY);
  }

  #of(device: string): DeviceHealth {
    return this.#health.get(device) ?? HEALTHY;
  }

  #take(device: string, verdict: ReturnType<typeof recordFault>): boolean {
    this.#health.set(device, verdict.health);
    if (verdict.quarantineUntil !== null) this.#onQuarantine({ device, until: verdict.quarantineUntil });
    return verdict.blamed;
  }
}
