import { AppError } from "../protocol/error.ts";

/** Runs one step on Redis. @throws AppError REDIS_UNAVAILABLE that says what was tried */
export async function onRedis<T>(what: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    throw new AppError("REDIS_UNAVAILABLE", `${what}: Redis does not answer (${text})`, { cause: thrown });
  }
}
