import { once } from "node:events";
import { createConnection } from "node:net";
import { createInterface } from "node:readline";

/** One command that Redis carried out. */
export interface MonitoredCommand {
  /** Name and arguments, with what is not printable escaped. */
  readonly args: readonly string[];
  /** Called by a script, not sent by a client. */
  readonly byScript: boolean;
}

export interface RedisMonitor extends Disposable {
  /** All since the start, in order; grows. */
  readonly seen: readonly MonitoredCommand[];
}

/** Redis' own MONITOR, on a socket of its own: ioredis takes what comes with the answer to MONITOR for answers to nothing. `url`: `unix:` address. */
export async function startMonitor(url: string): Promise<RedisMonitor> {
  const socket = createConnection({ path: url.replace(/^unix:/, "") });
  const seen: MonitoredCommand[] = [];
  const lines = createInterface({ input: socket });
  const started = once(lines, "line");
  lines.on("line", (line) => {
    const match = /^\+[\d.]+ \[\d+ (\S+)\] (.*)$/.exec(line);
    if (match === null) return;
    const [, source = "", text = ""] = match;
    seen.push({ args: Array.from(text.matchAll(/"((?:[^"\\]|\\.)*)"/g), ([, arg = ""]) => arg), byScript: source === "lua" });
  });
  socket.write("MONITOR\r\n");
  await started;
  return { seen, [Symbol.dispose]: () => socket.destroy() };
}
