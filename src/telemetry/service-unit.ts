import type { SdNotify } from "./sd-notify.ts";

/** A program's life as systemd follows it. Outside systemd nothing of it costs anything. */
export interface ServiceUnit extends Disposable {
  /** The start goes on with this: shown by `systemctl status`. */
  starting(doing: string): void;
  /** The start is over; from now on the watchdog is fed while `isAlive` says so. */
  ready(status: string, isAlive?: () => boolean): Promise<void>;
  /** The end has begun. However long it takes, TimeoutStopSec does not cut it off. */
  stopping(status: string): Promise<void>;
}

export interface ServiceUnitOptions {
  /** Longest start that is asked for: one that hangs is ended by the unit's own timeout after it. */
  readonly longestStartMs?: number;
}

/** A message promises the next one within this. */
const PROMISE_MS = 30_000;
/** Leaves two more tries when a message is lost or the machine is slow. */
const EXTEND_EVERY_MS = 10_000;
const LONGEST_START_MS = 900_000;

/** Extends the start from now on. What ends is bounded by the program itself (its grace and its last words), so its end is always extended. */
export function openServiceUnit(notify: SdNotify, { longestStartMs = LONGEST_START_MS }: ServiceUnitOptions = {}): ServiceUnit {
  let timer: NodeJS.Timeout | undefined;
  // Messages are programs of their own: one after the other, so that none overtakes another.
  let sent = Promise.resolve();
  const inOrder = (send: () => Promise<void>): Promise<void> => (sent = sent.then(send));
  const every = (ms: number, work: () => void): void => {
    clearInterval(timer);
    timer = setInterval(work, ms);
    // What a program waits for keeps it running, never this.
    timer.unref();
  };
  let isEnding = false;
  if (notify.enabled) {
    let left = longestStartMs / EXTEND_EVERY_MS;
    void inOrder(() => notify.extend(PROMISE_MS));
    every(EXTEND_EVERY_MS, () => {
      left -= 1;
      if (left > 0) void inOrder(() => notify.extend(PROMISE_MS));
    });
  }
  return {
    starting: (doing) => {
      if (notify.enabled && !isEnding) void inOrder(() => notify.status(doing));
    },
    ready: async (status, isAlive = () => true) => {
      // Signalled while it started.
      if (isEnding) return;
      clearInterval(timer);
      await inOrder(() => notify.ready(status));
      if (notify.watchdogIntervalMs === null || isEnding) return;
      every(notify.watchdogIntervalMs, () => {
        if (isAlive()) void inOrder(() => notify.watchdog());
      });
    },
    stopping: async (status) => {
      isEnding = true;
      clearInterval(timer);
      if (!notify.enabled) return;
      every(EXTEND_EVERY_MS, () => void inOrder(() => notify.extend(PROMISE_MS)));
      await inOrder(() => notify.stopping(status, PROMISE_MS));
    },
    [Symbol.dispose]: () => clearInterval(timer),
  };
}
