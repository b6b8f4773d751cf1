import { monitorEventLoopDelay } from "node:perf_hooks";

export interface EventLoopDelay extends Disposable {
  /** Seconds since the last call; starts anew. */
  takeSeconds(): { readonly p50: number; readonly p99: number; readonly max: number };
}

const RESOLUTION_MS = 10;

/**
 * How late the event loop runs its timers. Node's histogram records the whole interval between two samples (10.1 ms when idle at a
 * resolution of 10 ms, measured): the resolution is taken off, so that an idle loop reads about 0.
 */
export function startEventLoopDelay(): EventLoopDelay {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  const seconds = (nanoseconds: number): number =>
    Number.isFinite(nanoseconds) ? Math.max(0, nanoseconds / 1e9 - RESOLUTION_MS / 1e3) : 0;
  return {
    takeSeconds: () => {
      const taken = { p50: seconds(histogram.percentile(50)), p99: seconds(histogram.percentile(99)), max: seconds(histogram.max) };
      histogram.reset();
      return taken;
    },
    [Symbol.dispose]: () => void histogram.disable(),
  };
}
