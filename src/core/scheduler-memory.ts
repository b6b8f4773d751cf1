import { backoffKey, peakKey, type Device, type Model, type Runner, type SchedulerState } from "./scheduler-state.ts";

/** Bytes that a model is stated to need on a kind of device; null where it does not run on such a device, or not by turns. */
export function statedBytes({ memoryBytes, stagedBytes }: Model, { kind }: Device, staged: boolean): number | null {
  return (staged ? stagedBytes : memoryBytes)?.[kind] ?? null;
}

/** Bytes that a runner of the model needs on the device, or null where the model does not run there so. */
export function needBytes(state: SchedulerState, model: Model, device: Device, staged = false): number | null {
  const stated = statedBytes(model, device, staged);
  if (stated === null) return null;
  // A peak of an earlier life may be below what a newer manifest states.
  return Math.max(stated, state.peaks[peakKey(model.slug, device.id, staged)] ?? 0);
}

/** Bytes that a runner may come to hold: what its model needs, or what it was seen with when that is more. */
export function heldBytes(state: SchedulerState, runner: Runner): number {
  const device = state.devices.find(({ id }) => id === runner.device);
  const model = state.models.find(({ slug }) => slug === runner.model);
  const need = device === undefined || model === undefined ? null : needBytes(state, model, device, runner.budgetBytes !== null);
  return Math.max(need ?? runner.needBytes, runner.seenBytes);
}

/** How a model comes onto a device. */
export interface LoadPlan {
  /** Runners to stop before. */
  readonly evict: readonly Runner[];
  readonly needBytes: number;
  /** As Runner has it. */
  readonly budgetBytes: number | null;
}

/** A load of the whole model where it fits, else one whose parts are there by turns; null where not even that fits. */
export function planLoad(state: SchedulerState, model: Model, device: Device): LoadPlan | null {
  for (const staged of [false, true]) {
    const need = needBytes(state, model, device, staged);
    const evict = need === null ? null : planEviction(state, need, device);
    if (need !== null && evict !== null) return { evict, needBytes: need, budgetBytes: staged ? statedBytes(model, device, true) : null };
  }
  return null;
}

/**
 * Runners to stop so that as much fits on the device, least recently used first, those with waiting jobs last; null when it does not
 * fit even then. Runners that are stopping already count as gone. Meant for a device on which nothing runs: only ready, unpinned
 * runners are given up.
 */
function planEviction(state: SchedulerState, need: number, device: Device): readonly Runner[] | null {
  const kept = state.runners.filter((runner) => runner.device === device.id && runner.phase !== "stopping");
  let missing = need - (device.memoryBytes - device.foreignBytes);
  for (const runner of kept) missing += heldBytes(state, runner);
  if (missing <= 0) return [];

  const pinned = new Set(state.models.filter((each) => each.pinned).map(({ slug }) => slug));
  const hasWork = (runner: Runner): number => ((state.queues[runner.model]?.waiting ?? 0) > 0 ? 1 : 0);
  const idle = kept
    .filter((runner) => runner.phase === "ready" && !pinned.has(runner.model))
    .toSorted((a, b) => hasWork(a) - hasWork(b) || a.lastUsedAt - b.lastUsedAt);
  const chosen: Runner[] = [];
  for (const runner of idle) {
    if (missing <= 0) break;
    chosen.push(runner);
    missing -= heldBytes(state, runner);
  }
  if (missing > 0) return null;
  // A small early one may have become needless through a large later one.
  return chosen.filter((runner) => {
    const held = heldBytes(state, runner);
    if (missing + held > 0) return true;
    missing += held;
    return false;
  });
}

/**
 * What a measurement says about memory that others hold. Our runners hold between nothing and all of their need, so it bounds the
 * foreign part from both sides; the earlier belief is kept as far as it is within the bounds. Exact when nothing of ours is there.
 */
export function foreignBytes(state: SchedulerState, device: Device, freeBytes: number): number {
  const taken = Math.max(0, device.memoryBytes - freeBytes);
  return Math.min(taken, Math.max(device.foreignBytes, provenForeignBytes(state, device, freeBytes)));
}

/** The part of that which the measurement proves: what our runners cannot hold themselves. */
export function provenForeignBytes(state: SchedulerState, device: Device, freeBytes: number): number {
  return Math.max(0, device.memoryBytes - freeBytes - oursBytes(state, device));
}

function oursBytes(state: SchedulerState, device: Device): number {
  return state.runners.filter((runner) => runner.device === device.id).reduce((sum, runner) => sum + heldBytes(state, runner), 0);
}

/**
 * The state as if nothing had been measured on the device but what the last measurement proves: the manifests alone count. What was
 * measured may be wrong (a driver that lists no process, another's peak), and a load that it rules out could never show that it is.
 */
export function withoutMeasurements(state: SchedulerState, id: string): SchedulerState {
  return {
    ...state,
    peaks: Object.fromEntries(Object.entries(state.peaks).filter(([key]) => !key.endsWith(backoffKey("", id)))),
    devices: state.devices.map((device) => (device.id === id ? { ...device, foreignBytes: device.provenForeignBytes } : device)),
    runners: state.runners.map((runner) => (runner.device === id ? { ...runner, seenBytes: 0 } : runner)),
  };
}
