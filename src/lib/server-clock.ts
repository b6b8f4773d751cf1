import { steadyNow } from "./steady-clock.ts";

/** Redis, as far as its clock goes: seconds and microseconds since 1970. */
interface TimeServer {
  time(): Promise<readonly (number | string)[]>;
}

/** Unix milliseconds. */
export type ServerClock = () => Promise<number>;

/** So long a sample counts; the process's own monotonic clock runs on from it. */
const SAMPLE_MS = 10_000;

const clocks = new WeakMap<TimeServer, ServerClock>();

/**
 * The clock of the server behind a connection: the one clock of all that several machines write and compare. Their own may be hours apart,
 * or be set while they run. Asks the server every ten seconds at most. @throws whatever the connection throws
 */
export function serverClock(server: TimeServer): ServerClock {
  const known = clocks.get(server);
  if (known !== undefined) return known;
  const clock = sampledClock(async () => {
    const [seconds, microseconds] = await server.time();
    return Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  });
  clocks.set(server, clock);
  return clock;
}

/** `steady`: a clock that never goes back. */
export function sampledClock(read: () => Promise<number>, steady: () => number = steadyNow): ServerClock {
  let sample: { readonly takenAt: number; readonly ahead: Promise<number> } | null = null;
  const take = (takenAt: number): Promise<number> =>
    // The answer is from somewhere between the question and now.
    read().then((answered) => answered - (takenAt + steady()) / 2);
  return async () => {
    const at = steady();
    if (sample === null || at - sample.takenAt > SAMPLE_MS) {
      const taken = { takenAt: at, ahead: take(at) };
      sample = taken;
      taken.ahead.catch(() => {
        if (sample === taken) sample = null;
      });
    }
    const ahead = await sample.ahead;
    return Math.round(steady() + ahead);
  };
}
