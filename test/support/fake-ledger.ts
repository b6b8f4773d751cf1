import type { FaultLedger } from "../../src/state/state-types.ts";

export class FakeLedger implements FaultLedger {
  readonly faults = new Map<string, { readonly onJob: Set<number>; readonly onDevice: Set<number> }>();
  readonly passed = new Map<string, Set<string>>();

  async recordFault(id: string, claim: number, blamed: "job" | "device"): Promise<{ readonly onJob: number; readonly onDevice: number }> {
    const known = this.faults.get(id) ?? { onJob: new Set(), onDevice: new Set() };
    known[blamed === "job" ? "onJob" : "onDevice"].add(claim);
    this.faults.set(id, known);
    return { onJob: known.onJob.size, onDevice: known.onDevice.size };
  }

  async recordPassOn(id: string, worker: string): Promise<number> {
    const workers = (this.passed.get(id) ?? new Set()).add(worker);
    this.passed.set(id, workers);
    return workers.size;
  }

  async passedOnBy(id: string): Promise<ReadonlySet<string>> {
    return this.passed.get(id) ?? new Set();
  }
}
