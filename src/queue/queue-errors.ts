import { RedisError, redisFailure } from "../core/redis-failure.ts";
import { AppError } from "../protocol/error.ts";

/** BullMQ's words for a lock that is gone, another's, or a job that is no longer where the holder left it (codes -1, -2, -3, -6). */
const LOST = /^(Missing key for job|Missing lock for job|Lock mismatch for job|Job .+ is not in the active state)/;

/** An error of BullMQ or ioredis as one of ours. `what` says what was tried. */
export function queueError(thrown: unknown, what: string): AppError {
  if (thrown instanceof AppError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  if (LOST.test(text)) return new AppError("LOCK_LOST", `${what}: ${text}`, { cause: thrown });
  const failure = redisFailure(thrown);
  if (failure !== null) return new RedisError(what, failure, thrown);
  if (text.includes("WRONGTYPE"))
    return new AppError("RECORD_UNREADABLE", `${what}: its key holds a value of another type`, { cause: thrown });
  return new AppError("INTERNAL", `${what}: ${text}`, { cause: thrown });
}

export async function guarded<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw queueError(thrown, what);
  }
}
