/**
 * At most N items a second, newest wins: an item that comes too soon is held, a newer one takes its place, and the last one comes out
 * when its time is over. One gate per job and kind (previews, progress). The owner keeps the gate and its one timer, and gives the times, of a clock that
 * never goes back:
 *
 *   offer ---- interval over ----> passed on
 *     '------- too soon ---------> held until `dueAt` --- flush ---> passed on
 *
 * At the end of a job what is held is dropped: the terminal event, which goes through no gate, says more.
 */
export interface RateGate<T> {
  readonly intervalMs: number;
  readonly lastAt: number | null;
  readonly held: { readonly item: T } | null;
}

export interface GateStep<T> {
  readonly gate: RateGate<T>;
  /** To be passed on now. */
  readonly item: T | null;
  /** When to call `flush`; null when nothing is held. */
  readonly dueAt: number | null;
}

/** Progress events a second and job. Previews: MAX_PREVIEWS_PER_SECOND of protocol/event.ts. */
export const MAX_PROGRESS_PER_SECOND = 10;

export function openGate<T>(perSecond: number): RateGate<T> {
  return { intervalMs: Math.ceil(1_000 / perSecond), lastAt: null, held: null };
}

export function offer<T>(gate: RateGate<T>, item: T, at: number): GateStep<T> {
  return flush({ ...gate, held: { item } }, at);
}

/** Passes on what is held if it is due. */
export function flush<T>(gate: RateGate<T>, at: number): GateStep<T> {
  if (gate.held === null) return { gate, item: null, dueAt: null };
  const waitsMs = gate.lastAt === null ? 0 : gate.lastAt + gate.intervalMs - at;
  if (waitsMs > 0) return { gate, item: null, dueAt: at + waitsMs };
  return { gate: { ...gate, lastAt: at, held: null }, item: gate.held.item, dueAt: null };
}
