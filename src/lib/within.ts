export interface WithinOptions {
  readonly ms: number;
  /** What is thrown when the time is over. */
  readonly late: () => Error;
  readonly signal?: AbortSignal;
  /** A process that has nothing else to do does not stay up for the rest of the time. */
  readonly unref?: boolean;
}

/** The outcome of work that comes in time; the work goes on when it does not. @throws `late()`, `signal.reason`, what the work throws */
export async function within<T>(work: Promise<T>, { ms, late, signal, unref }: WithinOptions): Promise<T> {
  const over = Promise.withResolvers<never>();
  const timer = setTimeout(() => over.reject(late()), ms);
  if (unref === true) timer.unref();
  const onAbort = (): void => over.reject(signal?.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** Waits for the end of work, good or bad, at most `ms` and not beyond an abort. Whether it has ended. Never throws. */
export async function endedWithin(ms: number, work: Promise<unknown>, signal?: AbortSignal): Promise<boolean> {
  const settled = work.then(
    () => true,
    () => true,
  );
  return within(settled, { ms, late: () => new Error("late"), ...(signal !== undefined && { signal }) }).catch(() => false);
}
