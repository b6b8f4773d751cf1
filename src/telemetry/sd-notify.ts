import { execFile } from "node:child_process";

export interface SdNotify {
  /** False outside systemd: every call below does nothing then. */
  readonly enabled: boolean;
  /** How often to call `watchdog`, half of what systemd allows; null when the unit has no WatchdogSec for this process. */
  readonly watchdogIntervalMs: number | null;
  ready(status: string): Promise<void>;
  status(text: string): Promise<void>;
  watchdog(): Promise<void>;
  /** With `extendMs` as for `extend`, in the same message. */
  stopping(status: string, extendMs: number): Promise<void>;
  /**
   * The start or the end goes on: the unit's time for it does not run out before `ms` from now. Once its TimeoutStartSec or TimeoutStopSec has
   * passed, a unit whose next message is later than that is killed.
   */
  extend(ms: number): Promise<void>;
}

export interface SdNotifyOptions {
  /** Told when a message could not be sent; it is never an error of the daemon. */
  readonly onError?: (thrown: unknown) => void;
  /** The notifier. Default: systemd-notify from the PATH, or from where distributions put it. */
  readonly command?: string;
}

/** A unit's PATH may be set to the folder of Node alone. */
const USUAL_PATH = "/usr/bin:/bin";

/**
 * Messages to systemd's service manager. Node has no AF_UNIX datagram sockets, so the `systemd-notify` program sends them (9 to 20 ms,
 * off the event loop); it waits until systemd has read each one, so the unit needs `NotifyAccess=all`. Source: sd_notify(3).
 */
export function openSdNotify(env: Readonly<Record<string, string | undefined>>, options: SdNotifyOptions = {}): SdNotify {
  const socket = env["NOTIFY_SOCKET"] ?? "";
  const enabled = socket !== "";
  const send = async (...lines: readonly string[]): Promise<void> => {
    if (!enabled) return;
    try {
      await run(options.command ?? "systemd-notify", lines, socket);
    } catch (thrown) {
      options.onError?.(thrown);
    }
  };
  return {
    enabled,
    watchdogIntervalMs: enabled ? watchdogIntervalMs(env) : null,
    ready: (status) => send("READY=1", statusLine(status)),
    status: (text) => send(statusLine(text)),
    watchdog: () => send("WATCHDOG=1"),
    stopping: (status, extendMs) => send("STOPPING=1", statusLine(status), extendLine(extendMs)),
    extend: (ms) => send(extendLine(ms)),
  };
}

function watchdogIntervalMs(env: Readonly<Record<string, string | undefined>>): number | null {
  const usec = Number(env["WATCHDOG_USEC"] ?? "");
  const forUs = env["WATCHDOG_PID"] === undefined || env["WATCHDOG_PID"] === String(process.pid);
  return forUs && Number.isFinite(usec) && usec > 0 ? usec / 2_000 : null;
}

function statusLine(text: string): string {
  return `STATUS=${text.replaceAll("\n", " ")}`;
}

function extendLine(ms: number): string {
  return `EXTEND_TIMEOUT_USEC=${Math.round(ms * 1_000)}`;
}

async function run(command: string, lines: readonly string[], socket: string): Promise<void> {
  const path = [process.env["PATH"] ?? "", USUAL_PATH].filter((part) => part !== "").join(":");
  await new Promise<void>((resolve, reject) => {
    execFile(command, [...lines], { env: { PATH: path, NOTIFY_SOCKET: socket }, timeout: 10_000 }, (error) => {
      if (error === null) resolve();
      else reject(new Error(`${command} ${lines.join(" ")} failed`, { cause: error }));
    });
  });
}
