import { createRedisBackend, type BackendFactory, type RedisQueueBackend } from "bullmq";
import type { ServerClock } from "../lib/server-clock.ts";

/**
 * Where BullMQ puts its process's `Date.now()` among the keys and arguments of a script. By it delayed jobs fall due, ends are dated, and
 * ended jobs are thrown away: a worker whose clock is ahead would take delayed jobs hours early.
 */
const TIME_AT: Readonly<Record<string, number>> = { moveToActive: 12, moveToFinished: 15, moveStalledJobsToWait: 11 };

/** BullMQ's backend with Redis' clock instead of the process's. */
export function clockedBackend(clock: ServerClock): BackendFactory<RedisQueueBackend> {
  return (...options) => {
    const backend = createRedisBackend(...options);
    const execute: (...call: Parameters<typeof backend.execCommand>) => unknown = backend.execCommand.bind(backend);
    backend.execCommand = (client, script, args): unknown => {
      const at = TIME_AT[script];
      if (at === undefined) return execute(client, script, args);
      return clock().then((now) => execute(client, script, timed(script, args, at, now)));
    };
    return backend;
  };
}

function timed(script: string, args: readonly unknown[], index: number, now: number): unknown[] {
  const given = args[index];
  // Another version of BullMQ may have moved it.
  if (typeof given !== "number" || given < 1e12)
    throw new TypeError(`argument ${index} of BullMQ's ${script} is ${String(given)}, no time; this is a bug`);
  return args.with(index, now);
}
