/**
 * At most N items a second, newest wins: an item that comes too soon is held, a newer one takes its place, and the last one is never
 * lost. One gate per job and kind (previews, progress). The owner keeps the value and the one timer:
 *
 *   offer ---- interval over ----> passed on
 *     '------- too soon ---------> held until `dueAt` --- flush ---> passed on
 *   end of the job: `flush(gate, at, { force: true })`, then the terminal event, which goes through no gate.
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

/** Passes on what is held if it is due; `force` passes it on in any case. */
export function flush<T>(gate: RateGate<T>, at: number, options: { readonly force?: boolean } = {}): GateStep<T> {
  if (gate.held === null) return { gate, item: null, dueAt: null };
  // A clock that was set back must not close the gate for as long.
  const waitsMs = gate.lastAt === null || at < gate.lastAt ? 0 : gate.lastAt + gate.intervalMs - at;
  if (waitsMs > 0 && options.force !== true) return { gate, item: null, dueAt: at + waitsMs };
  return { gate: { ...gate, lastAt: at, held: null }, item: gate.held.item, dueAt: null };
}
