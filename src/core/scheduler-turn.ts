import type { LoadPlan } from "./scheduler-memory.ts";
import {
  backoffKey,
  type Decision,
  type Device,
  type Effect,
  type Queue,
  type Runner,
  type SchedulerState,
  type StopReason,
} from "./scheduler-state.ts";

/**
 * One call of `decide` while it runs: the state so far and the effects so far. Every method replaces the changed part of the state by
 * a copy, so the state that came in stays as it was.
 */
export class Turn {
  state: SchedulerState;
  readonly at: number;
  readonly #effects: Effect[] = [];

  constructor(state: SchedulerState, at: number) {
    this.state = state;
    this.at = at;
  }

  emit(effect: Effect): void {
    this.#effects.push(effect);
  }

  patch(patch: Partial<SchedulerState>): void {
    this.state = { ...this.state, ...patch };
  }

  runner(id: string): Runner | undefined {
    return this.state.runners.find((runner) => runner.id === id);
  }

  patchRunner(id: string, patch: Partial<Runner>): void {
    this.patch({
      runners: this.state.runners.map((runner) => (runner.id === id ? { ...runner, ...patch } : runner)),
    });
  }

  dropRunner(id: string): void {
    this.patch({ runners: this.state.runners.filter((runner) => runner.id !== id) });
  }

  device(id: string): Device | undefined {
    return this.state.devices.find((device) => device.id === id);
  }

  patchDevice(id: string, patch: Partial<Device>): void {
    this.patch({
      devices: this.state.devices.map((device) => (device.id === id ? { ...device, ...patch } : device)),
    });
  }

  patchQueue(model: string, patch: Partial<Queue>): void {
    const queue = this.state.queues[model];
    if (queue !== undefined) this.patch({ queues: { ...this.state.queues, [model]: { ...queue, ...patch } } });
  }

  /** Has a runner stopped and gives its intent back. */
  stop(runner: Runner, reason: StopReason): void {
    this.emit({ type: "stop-runner", runner: runner.id, reason });
    this.withdrawIntent(runner);
    this.patchRunner(runner.id, { phase: "stopping" });
  }

  withdrawIntent(runner: Runner): void {
    if (!runner.intent) return;
    this.emit({ type: "withdraw-intent", model: runner.model, device: runner.device });
    this.patchRunner(runner.id, { intent: false });
  }

  /** Starts a runner; its intent was declared before. */
  start(model: string, device: string, { needBytes, budgetBytes }: Pick<LoadPlan, "needBytes" | "budgetBytes">): void {
    const runnerCount = this.state.runnerCount + 1;
    const id = `r${runnerCount}`;
    const runner: Runner = {
      id,
      model,
      device,
      phase: "starting",
      lastUsedAt: this.at,
      seenBytes: 0,
      needBytes,
      budgetBytes,
      intent: true,
      claimedOn: 0,
    };
    this.patch({ runnerCount, runners: [...this.state.runners, runner] });
    this.patchDevice(device, { reservedFor: null });
    this.emit({ type: "start-runner", runner: id, model, device, budgetBytes });
  }

  /** Gives up the load that a device was reserved for. */
  cancelReservation(device: Device): void {
    if (device.reservedFor === null) return;
    this.emit({ type: "withdraw-intent", model: device.reservedFor, device: device.id });
    this.patchDevice(device.id, { reservedFor: null });
  }

  /** Keeps a model off a device for a while that doubles with each failure in a row. */
  backOff(model: string, device: string): void {
    const key = backoffKey(model, device);
    const { loadBackoffMs, loadBackoffMaxMs } = this.state.policy;
    const failures = (this.state.backoffs[key]?.failures ?? 0) + 1;
    const delayMs = Math.min(loadBackoffMaxMs, loadBackoffMs * 2 ** Math.min(failures - 1, 30));
    this.patch({
      backoffs: { ...this.state.backoffs, [key]: { failures, until: this.at + delayMs } },
    });
  }

  end(): Decision {
    return { state: this.state, effects: this.#effects };
  }
}
