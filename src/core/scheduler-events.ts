import { foreignBytes, needBytes, provenForeignBytes, statedBytes } from "./scheduler-memory.ts";
import { backoffKey, peakKey, type Device, type Runner, type SchedulerEvent } from "./scheduler-state.ts";
import type { Turn } from "./scheduler-turn.ts";

type EventOf<T extends SchedulerEvent["type"]> = Extract<SchedulerEvent, { type: T }>;
type Handlers = { readonly [T in SchedulerEvent["type"]]: (turn: Turn, event: EventOf<T>) => void };

/** What each event changes by itself; what follows from it is decided afterwards. Events of unknown runners and devices are late: ignored. */
const HANDLERS: Handlers = {
  work(turn, event) {
    const views = event.queues.map((view) => {
      const before = turn.state.queues[view.model];
      const oldestAt = view.waiting > 0 ? (view.oldestAt ?? before?.oldestAt ?? turn.at) : null;
      return [view.model, { ...view, oldestAt, version: (before?.version ?? 0) + 1 }] as const;
    });
    turn.patch({ queues: { ...turn.state.queues, ...Object.fromEntries(views) } });
  },

  "job-added"(turn, event) {
    // Only a claim may follow from it, now or after a batch, which costs nothing when the job is gone by then: loads wait for the look.
    const isUp = ({ model, phase }: Runner): boolean => model === event.model && (phase === "ready" || phase === "busy");
    const queue = turn.state.queues[event.model];
    if (turn.state.runners.some(isUp) && queue?.waiting === 0) turn.patchQueue(event.model, { waiting: 1, oldestAt: turn.at });
  },

  "runner-ready"(turn, event) {
    const runner = turn.runner(event.runner);
    if (runner?.phase !== "starting") return;
    const { [backoffKey(runner.model, runner.device)]: _, ...backoffs } = turn.state.backoffs;
    turn.patch({ backoffs });
    turn.patchRunner(runner.id, { phase: "ready", lastUsedAt: turn.at });
    seen(turn, runner, event.memoryBytes);
  },

  "runner-exited"(turn, event) {
    const runner = turn.runner(event.runner);
    if (runner === undefined) return;
    turn.withdrawIntent(runner);
    turn.dropRunner(runner.id);
    lowerPeak(turn, runner);
    if (runner.phase === "starting" && event.crashed) turn.backOff(runner.model, runner.device);
    const device = turn.device(runner.device);
    if (device === undefined || !device.reportsMemory) return;
    turn.patchDevice(device.id, { unmeasuredSince: turn.at });
    turn.emit({ type: "measure-device", device: device.id });
  },

  claimed(turn, event) {
    const runner = turn.runner(event.runner);
    if (runner?.phase !== "claiming") return;
    turn.withdrawIntent(runner);
    if (event.count > 0) {
      turn.patch({ servedAt: { ...turn.state.servedAt, [runner.model]: turn.at } });
      turn.patchRunner(runner.id, { phase: "busy" });
    } else {
      turn.patchRunner(runner.id, { phase: "ready" });
    }
    // Fewer than asked for: the queue was empty, whatever an earlier peek saw. A later one may have seen a new job.
    const max = turn.state.models.find(({ slug }) => slug === runner.model)?.batchMax ?? 1;
    const unchanged = turn.state.queues[runner.model]?.version === runner.claimedOn;
    if (event.count < max && unchanged) turn.patchQueue(runner.model, { waiting: 0, oldestAt: null });
  },

  "batch-done"(turn, event) {
    const runner = turn.runner(event.runner);
    if (runner === undefined || (runner.phase !== "busy" && runner.phase !== "claiming")) return;
    seen(turn, runner, event.memoryBytes);
    turn.patchRunner(runner.id, { phase: "ready", lastUsedAt: turn.at });
    if (!event.reusable) turn.stop(runner, "not-reusable");
  },

  "device-measured"(turn, event) {
    const device = turn.device(event.device);
    if (device === undefined) return;
    // It was under way before a runner ended: that one's memory is in it.
    if (event.at < (device.unmeasuredSince ?? event.at)) {
      turn.emit({ type: "measure-device", device: device.id });
      return;
    }
    turn.patchDevice(device.id, { unmeasuredSince: null, ...foreignOf(turn, device, event.freeBytes) });
  },

  quarantine(turn, event) {
    const device = turn.device(event.device);
    if (device === undefined) return;
    turn.cancelReservation(device);
    turn.patchDevice(device.id, { inService: false });
    stopWhere(turn, "evict", (runner) => runner.device === device.id && isIdleOrStarting(runner));
  },

  "device-proved"(turn, event) {
    if (turn.device(event.device) !== undefined) turn.patchDevice(event.device, { inService: true });
  },

  "intent-refused"(turn, event) {
    const key = backoffKey(event.model, event.device);
    const failures = turn.state.backoffs[key]?.failures ?? 0;
    const until = turn.at + turn.state.policy.loadBackoffMs;
    turn.patch({ backoffs: { ...turn.state.backoffs, [key]: { failures, until } } });
    if (turn.device(event.device)?.reservedFor === event.model) turn.patchDevice(event.device, { reservedFor: null });
    for (const runner of turn.state.runners) {
      if (runner.model !== event.model || runner.device !== event.device || runner.phase !== "starting") continue;
      turn.patchRunner(runner.id, { intent: false });
      turn.stop({ ...runner, intent: false }, "evict");
    }
  },

  "models-changed"(turn, event) {
    const slugs = new Set(event.models.map(({ slug }) => slug));
    const queues = Object.fromEntries(Object.entries(turn.state.queues).filter(([slug]) => slugs.has(slug)));
    turn.patch({ models: event.models, queues });
    for (const device of turn.state.devices) {
      if (device.reservedFor !== null && !slugs.has(device.reservedFor)) turn.cancelReservation(device);
    }
  },

  "pause-claims"(turn, event) {
    if (!turn.state.paused.includes(event.reason)) turn.patch({ paused: [...turn.state.paused, event.reason] });
  },

  "resume-claims"(turn, event) {
    turn.patch({ paused: turn.state.paused.filter((reason) => reason !== event.reason) });
  },

  "evict-for"(turn, event) {
    // A pinned one must not come back before the job that it made room for has run again.
    const pinned = new Set(turn.state.models.filter((model) => model.pinned).map(({ slug }) => slug));
    for (const runner of turn.state.runners)
      if (runner.device === event.device && runner.id !== event.except && pinned.has(runner.model))
        turn.backOff(runner.model, runner.device);
    stopWhere(turn, "evict", (runner) => runner.device === event.device && runner.phase === "ready" && runner.id !== event.except);
  },

  drain(turn) {
    turn.patch({ draining: true });
    for (const device of turn.state.devices) turn.cancelReservation(device);
    stopWhere(turn, "drain", isIdleOrStarting);
  },

  tick(turn) {
    // The one timer has fired (perhaps a little early): ask for the next one in any case.
    turn.patch({ wakeAt: null });
  },
};

export function applyEvent(turn: Turn, event: SchedulerEvent): void {
  const handler = HANDLERS[event.type] as (turn: Turn, event: SchedulerEvent) => void;
  handler(turn, event);
}

function isIdleOrStarting(runner: Runner): boolean {
  return runner.phase === "ready" || runner.phase === "starting";
}

function stopWhere(turn: Turn, reason: "evict" | "drain", condition: (runner: Runner) => boolean): void {
  for (const runner of turn.state.runners.filter(condition)) turn.stop(runner, reason);
}

/** Without a measurement the belief about others stays, but nothing proves it any more. */
function foreignOf(turn: Turn, device: Device, freeBytes: number | null): Pick<Device, "foreignBytes" | "provenForeignBytes"> {
  if (freeBytes === null) return { foreignBytes: device.foreignBytes, provenForeignBytes: 0 };
  return {
    foreignBytes: foreignBytes(turn.state, device, freeBytes),
    provenForeignBytes: provenForeignBytes(turn.state, device, freeBytes),
  };
}

/**
 * While a process lives, its measurements only raise what is reckoned for it: after a small job they say nothing about a large one. No
 * process holds more than its device has.
 */
function seen(turn: Turn, runner: Runner, measured: number | undefined): void {
  const device = turn.device(runner.device);
  if (measured === undefined || device === undefined) return;
  const bytes = Math.min(measured, device.memoryBytes);
  turn.patchRunner(runner.id, { seenBytes: Math.max(runner.seenBytes, bytes) });
  const model = turn.state.models.find(({ slug }) => slug === runner.model);
  const staged = runner.budgetBytes !== null;
  const need = model === undefined ? null : needBytes(turn.state, model, device, staged);
  if (need === null || bytes <= need) return;
  turn.patch({ peaks: { ...turn.state.peaks, [peakKey(runner.model, runner.device, staged)]: bytes } });
}

/**
 * A process that ends after it was seen with less halves what the peak has too much: a wrong peak fades, one after a run of small jobs stays
 * a while. One whose parts were there by turns says nothing of the whole model; that one's peak fades with it, or it would never come back.
 */
function lowerPeak(turn: Turn, runner: Runner): void {
  const staged = runner.budgetBytes !== null;
  if (runner.seenBytes > 0) fadePeak(turn, runner, staged, runner.seenBytes);
  if (staged) fadePeak(turn, runner, false, 0);
}

function fadePeak(turn: Turn, runner: Runner, staged: boolean, seenBytes: number): void {
  const key = peakKey(runner.model, runner.device, staged);
  const { [key]: peak, ...others } = turn.state.peaks;
  if (peak === undefined || seenBytes >= peak) return;
  const lower = Math.floor((peak + seenBytes) / 2);
  const model = turn.state.models.find(({ slug }) => slug === runner.model);
  const device = turn.device(runner.device);
  const stated = (model !== undefined && device !== undefined ? statedBytes(model, device, staged) : null) ?? 0;
  turn.patch({ peaks: lower > stated ? { ...others, [key]: lower } : others });
}
