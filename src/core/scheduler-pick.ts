import { planLoad, withoutMeasurements, type LoadPlan } from "./scheduler-memory.ts";
import { backoffKey, type Device, type Model, type Queue, type Runner, type SchedulerState } from "./scheduler-state.ts";

/** A model with something to do. */
export interface Demand {
  readonly model: Model;
  readonly queue: Queue;
  /** Jobs that a claim would find, a due delayed one included. */
  readonly waiting: number;
  /** Since when the oldest job waits. */
  readonly oldestAt: number;
  /** Since when the model has waited for a service: its oldest job's submit or its last claim, whichever is later. */
  readonly unservedSince: number;
  readonly pressure: number;
  readonly starving: boolean;
}

export type Move =
  | { readonly kind: "claim"; readonly runner: Runner; readonly model: Model }
  | {
      readonly kind: "load";
      readonly model: Model;
      readonly device: Device;
      readonly plan: LoadPlan;
      /** It fits only by what the manifests state: what was measured on the device is to be forgotten. */
      readonly distrusts: boolean;
    };

export function demandOf(state: SchedulerState, model: Model, at: number): Demand | null {
  const queue = state.queues[model.slug];
  if (queue === undefined) return null;
  const due = queue.nextDueAt !== null && queue.nextDueAt <= at;
  const waiting = queue.waiting + (due ? 1 : 0);
  if (waiting <= 0) return null;
  const oldestAt = queue.oldestAt ?? (due ? queue.nextDueAt : at);
  const unservedSince = Math.max(oldestAt, state.servedAt[model.slug] ?? 0);
  const ageS = Math.max(0, at - oldestAt) / 1_000;
  const pressure = (waiting * 10 + ageS) * priorityFactor(queue.topPriority);
  return {
    model,
    queue,
    waiting,
    oldestAt,
    unservedSince,
    pressure,
    starving: at - unservedSince >= state.policy.starvationMs,
  };
}

/** 1 for the most urgent class and for an unknown one, falling slowly: 0.5 for 2, 0.23 for 10, 0.1 for 512. */
function priorityFactor(topPriority: number | null): number {
  return topPriority === null ? 1 : 1 / (1 + Math.log2(Math.max(1, topPriority)));
}

/** Jobs that runners which are coming up, here or elsewhere, will take with their first claim. */
export function comingSlots(state: SchedulerState, { model, queue }: Demand): number {
  const starting = state.runners.filter((runner) => runner.model === model.slug && runner.phase === "starting").length;
  const reserved = state.devices.filter((device) => device.reservedFor === model.slug).length;
  return (starting + reserved + queue.intended) * model.batchMax;
}

function residentSlots(state: SchedulerState, { model }: Demand): number {
  const usable = new Set(state.devices.filter((device) => device.inService).map(({ id }) => id));
  const live = (runner: Runner): boolean => runner.phase === "ready" || runner.phase === "claiming" || runner.phase === "busy";
  return state.runners.filter((runner) => runner.model === model.slug && live(runner) && usable.has(runner.device)).length * model.batchMax;
}

/** A device that may be given work: in service, not reserved, and no runner of it starts, claims or runs. */
function isFree(state: SchedulerState, device: Device): boolean {
  const active = (runner: Runner): boolean => runner.phase === "starting" || runner.phase === "claiming" || runner.phase === "busy";
  return device.inService && device.reservedFor === null && !state.runners.some((runner) => runner.device === device.id && active(runner));
}

function claimFor(state: SchedulerState, free: readonly Device[], { model }: Demand): Move | null {
  const runner = state.runners.find(
    (each) => each.model === model.slug && each.phase === "ready" && free.some((device) => device.id === each.device),
  );
  return runner === undefined ? null : { kind: "claim", runner, model };
}

/**
 * The load that costs least: fewest runners given up that have work, then the whole model before its parts by turns, then fewest runners
 * given up at all, then the smallest device that fits. With
 * `distrusts` what was measured on a device does not count.
 */
function loadFor(state: SchedulerState, free: readonly Device[], { model }: Demand, at: number, distrusts = false): Move | null {
  const hasWork = (runner: Runner): boolean => (state.queues[runner.model]?.waiting ?? 0) > 0;
  const options = free.flatMap((device) => {
    if ((state.backoffs[backoffKey(model.slug, device.id)]?.until ?? 0) > at) return [];
    if (state.runners.some((runner) => runner.device === device.id && runner.model === model.slug && runner.phase !== "stopping"))
      return [];
    const plan = planLoadOn(distrusts ? withoutMeasurements(state, device.id) : state, model, device.id);
    return plan === null ? [] : [{ device, plan, costly: plan.evict.filter(hasWork).length, staged: plan.budgetBytes === null ? 0 : 1 }];
  });
  const best = options.toSorted(
    (a, b) =>
      a.costly - b.costly ||
      a.staged - b.staged ||
      a.plan.evict.length - b.plan.evict.length ||
      a.device.memoryBytes - b.device.memoryBytes,
  )[0];
  return best === undefined ? null : { kind: "load", model, device: best.device, plan: best.plan, distrusts };
}

function planLoadOn(state: SchedulerState, model: Model, id: string): LoadPlan | null {
  const device = state.devices.find((each) => each.id === id);
  return device === undefined ? null : planLoad(state, model, device);
}

/** The next move of the decision tree (see `decide`), or null when there is nothing to do. */
export function pickMove(state: SchedulerState, at: number): Move | null {
  if (state.draining || state.paused.length > 0) return null;
  const free = state.devices.filter((device) => isFree(state, device));
  if (free.length === 0) return null;
  const demands = state.models.flatMap((model) => demandOf(state, model, at) ?? []);

  for (const demand of demands.filter(({ starving }) => starving).toSorted((a, b) => a.unservedSince - b.unservedSince)) {
    const claim = claimFor(state, free, demand);
    if (claim !== null) return claim;
    if (demand.waiting <= comingSlots(state, demand)) continue;
    const load = loadFor(state, free, demand, at) ?? loadFor(state, free, demand, at, true);
    if (load !== null) return load;
  }
  const byPressure = demands.toSorted((a, b) => b.pressure - a.pressure || a.unservedSince - b.unservedSince);
  for (const demand of byPressure) {
    const move = claimFor(state, free, demand);
    if (move !== null) return move;
  }
  for (const demand of byPressure) {
    if (demand.waiting <= comingSlots(state, demand) + residentSlots(state, demand)) continue;
    const move = loadFor(state, free, demand, at);
    if (move !== null) return move;
  }
  return preload(state, free, at);
}

/** A pinned model that is nowhere on this host is loaded before anybody asks for it, where that costs no other model anything. */
function preload(state: SchedulerState, free: readonly Device[], at: number): Move | null {
  for (const model of state.models.filter(({ pinned, slug }) => pinned && !isPresent(state, slug))) {
    const plans = free
      .filter(({ id }) => (state.backoffs[backoffKey(model.slug, id)]?.until ?? 0) <= at)
      .toSorted((one, other) => one.memoryBytes - other.memoryBytes)
      .map((device) => ({ device, plan: planLoad(state, model, device) }));
    const found =
      plans.find(({ plan }) => plan?.evict.length === 0 && plan.budgetBytes === null) ?? plans.find(({ plan }) => plan?.evict.length === 0);
    if (found !== undefined && found.plan !== null)
      return { kind: "load", model, device: found.device, plan: found.plan, distrusts: false };
  }
  return null;
}

/** Whether a model is on a device of this host, or on its way there. */
function isPresent(state: SchedulerState, slug: string): boolean {
  return (
    state.runners.some((runner) => runner.model === slug && runner.phase !== "stopping") ||
    state.devices.some((device) => device.reservedFor === slug)
  );
}
