import { applyEvent } from "./scheduler-events.ts";
import { planLoad, withoutMeasurements } from "./scheduler-memory.ts";
import { comingSlots, demandOf, pickMove, type Move } from "./scheduler-pick.ts";
import type { Decision, Device, Model, Runner, SchedulerEvent, SchedulerState } from "./scheduler-state.ts";
import { Turn } from "./scheduler-turn.ts";

/**
 * What the daemon does next: events in, effects out, no clock and no I/O inside.
 *
 * After the event's own change the tree below is walked from the top until nothing more follows; every move occupies one device, so
 * that is at most one move per device. A device is *free* when it is in service, not reserved and none of its runners is
 * starting, claiming or busy: that is why it never runs two batches.
 *
 *  1. Draining: every runner is stopped as soon as it is idle, and nothing else happens. Paused, or the device out of service: nothing starts or claims.
 *  2. A device reserved for a load starts it once every stopping runner has exited and its memory was measured back; it stops more
 *     runners when the measurement shows that they must go; it gives up (with a back-off) when even that is not enough, and when
 *     nobody waits any more.
 *  3. A model is starving when its oldest job is older than `starvationMs` and it was not served for as long. The one that starves
 *     longest comes first: a resident idle runner claims, else it is loaded, also in place of an idle model that has work. Counting
 *     from the last service turns an overload by two models into slices of `starvationMs` each instead of a load per batch.
 *     When it fits nowhere for what was measured (its own peak, other models', memory of others) but would by the manifests, one device
 *     forgets its measurements and loads it: a wrong one cannot keep a model out for ever, a right one costs a failed load and a back-off.
 *  4. A resident model beats a load; among residents the highest pressure: waiting x 10 + age in s, weighed by priority.
 *  5. A load: highest pressure first, onto the free device where it costs least, if the model fits there after stopping idle,
 *     unpinned, least-recently-used runners; only while more jobs wait than slots are resident or coming up here or elsewhere, and
 *     not while a failed load of it on that device is backing off. (A starving model
 *     counts only the slots that are coming up: resident ones have not helped it.)
 *  6. A pinned model that is on no device is loaded before anybody asks, onto a free device where it fits beside what is there.
 *  7. Runners that are idle for `idleUnloadMs`, unpinned and without waiting jobs are stopped; runners of withdrawn models and on devices
 *     out of service always.
 *  8. The earliest time at which any of this could change by itself is asked for as a wake-up.
 */
export function decide(state: SchedulerState, event: SchedulerEvent): Decision {
  const turn = new Turn(state, event.at);
  applyEvent(turn, event);
  if (turn.state.draining) {
    for (const runner of idleRunners(turn)) turn.stop(runner, "drain");
    return turn.end();
  }
  for (const device of turn.state.devices) settleReservation(turn, device);
  for (let move = pickMove(turn.state, turn.at); move !== null; move = pickMove(turn.state, turn.at)) apply(turn, move);
  stopIdle(turn);
  askForWakeUp(turn);
  return turn.end();
}

function idleRunners(turn: Turn): readonly Runner[] {
  return turn.state.runners.filter((runner) => runner.phase === "ready");
}

/** Whether all memory that was given up on the device is back. */
function isSettled(turn: Turn, device: Device): boolean {
  const stopping = turn.state.runners.some((runner) => runner.device === device.id && runner.phase === "stopping");
  return !stopping && device.unmeasuredSince === null;
}

function settleReservation(turn: Turn, device: Device): void {
  const slug = device.reservedFor;
  if (slug === null) return;
  const model = turn.state.models.find((each) => each.slug === slug);
  if (model === undefined || !isWanted(turn, model)) {
    turn.cancelReservation(device);
    return;
  }
  if (turn.state.paused.length > 0 || !isSettled(turn, device)) return;
  const plan = planLoad(turn.state, model, device);
  if (plan === null) {
    turn.cancelReservation(device);
    turn.backOff(slug, device.id);
  } else if (plan.evict.length === 0) {
    turn.start(slug, device.id, plan);
  } else {
    for (const runner of plan.evict) turn.stop(runner, "evict");
  }
}

/** Whether the load that a device is reserved for still has a reason: more jobs than slots coming up without it, or a pin. */
function isWanted(turn: Turn, model: Model): boolean {
  if (model.pinned && !turn.state.runners.some((runner) => runner.model === model.slug && runner.phase !== "stopping")) return true;
  const demand = demandOf(turn.state, model, turn.at);
  return demand !== null && demand.waiting > comingSlots(turn.state, demand) - model.batchMax;
}

function apply(turn: Turn, move: Move): void {
  const { slug, batchMax } = move.model;
  if (move.kind === "claim") {
    turn.emit({ type: "claim", runner: move.runner.id, model: slug, max: batchMax });
    turn.patchRunner(move.runner.id, {
      phase: "claiming",
      claimedOn: turn.state.queues[slug]?.version ?? 0,
    });
    expectClaimed(turn, slug, batchMax);
    return;
  }
  turn.emit({ type: "declare-intent", model: slug, device: move.device.id });
  if (move.distrusts) turn.patch(withoutMeasurements(turn.state, move.device.id));
  turn.patchDevice(move.device.id, { reservedFor: slug });
  for (const runner of move.plan.evict) turn.stop(runner, "evict");
  if (isSettled(turn, move.device)) turn.start(slug, move.device.id, move.plan);
}

/** Takes the jobs of a claim under way out of the picture, so that no second device goes for them. */
function expectClaimed(turn: Turn, model: string, max: number): void {
  const queue = turn.state.queues[model];
  if (queue === undefined) return;
  const due = queue.nextDueAt !== null && queue.nextDueAt <= turn.at;
  const waiting = Math.max(0, queue.waiting - max);
  turn.patchQueue(model, {
    waiting,
    oldestAt: waiting === 0 ? null : queue.oldestAt,
    nextDueAt: due ? null : queue.nextDueAt,
  });
}

function stopIdle(turn: Turn): void {
  const { models, policy } = turn.state;
  for (const runner of idleRunners(turn)) {
    const model = models.find(({ slug }) => slug === runner.model);
    const isOver = policy.idleUnloadMs !== null && turn.at - runner.lastUsedAt >= policy.idleUnloadMs;
    const isInService = turn.device(runner.device)?.inService === true;
    if (model === undefined || !isInService) turn.stop(runner, "evict");
    else if (isOver && !model.pinned && demandOf(turn.state, model, turn.at) === null) turn.stop(runner, "idle");
  }
}

function askForWakeUp(turn: Turn): void {
  const wakeAt = nextWakeUp(turn);
  if (wakeAt === null || wakeAt === turn.state.wakeAt) return;
  turn.patch({ wakeAt });
  turn.emit({ type: "wake-at", at: wakeAt });
}

function nextWakeUp(turn: Turn): number | null {
  const { state, at } = turn;
  const { idleUnloadMs, starvationMs } = state.policy;
  const times: number[] = [];
  if (idleUnloadMs !== null) times.push(...idleRunners(turn).map((runner) => runner.lastUsedAt + idleUnloadMs));
  for (const backoff of Object.values(state.backoffs)) times.push(backoff.until);
  for (const model of state.models) {
    const demand = demandOf(state, model, at);
    if (demand !== null) times.push(demand.unservedSince + starvationMs);
    const nextDueAt = state.queues[model.slug]?.nextDueAt ?? null;
    if (nextDueAt !== null) times.push(nextDueAt);
  }
  const future = times.filter((time) => time > at);
  return future.length === 0 ? null : Math.min(...future);
}
