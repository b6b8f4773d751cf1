import { RedisError, redisFailure } from "../core/redis-failure.ts";
import { AppError } from "../protocol/error.ts";

/**
 * Runs one step on Redis.
 * @throws AppError REDIS_UNAVAILABLE that says what was tried, why it failed and what to do; RECORD_UNREADABLE where a key holds another type
 */
export async function onRedis<T>(what: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (thrown) {
    throw redisError(what, thrown);
  }
}

function redisError(what: string, thrown: unknown): AppError {
  if (thrown instanceof AppError) return thrown;
  const failure = redisFailure(thrown);
  if (failure !== null) return new RedisError(what, failure, thrown);
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  if (text.includes("WRONGTYPE"))
    return new AppError("RECORD_UNREADABLE", `${what}: its key holds a value of another type`, { cause: thrown });
  return new AppError("REDIS_UNAVAILABLE", `${what}: Redis failed (${text})`, { cause: thrown });
}
