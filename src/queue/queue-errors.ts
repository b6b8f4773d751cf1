import { AppError } from "../protocol/error.ts";

/** BullMQ's words for a lock that is gone, another's, or a job that is no longer where the holder left it (codes -1, -2, -3, -6). */
const LOST = /^(Missing key for job|Missing lock for job|Lock mismatch for job|Job .+ is not in the active state)/;
/** What ioredis, the socket and Redis itself say while Redis is away, starting, failing over, frozen, or out of memory or disk. */
const AWAY =
  /Connection is closed|Stream isn't writeable|max retries per request|ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND|EAI_AGAIN|Command timed out|Blocking timeout|^LOADING|^READONLY|^NOREPLICAS|^CLUSTERDOWN|^MASTERDOWN|^TRYAGAIN|^OOM|^MISCONF|^BUSY /;

/** An error of BullMQ or ioredis as one of ours. `what` says what was tried. */
export function queueError(thrown: unknown, what: string): AppError {
  if (thrown instanceof AppError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  if (LOST.test(text)) return new AppError("LOCK_LOST", `${what}: ${text}`, { cause: thrown });
  if (AWAY.test(text) || AWAY.test(code))
    return new AppError("REDIS_UNAVAILABLE", `${what}: Redis does not answer (${text})`, { cause: thrown });
  return new AppError("INTERNAL", `${what}: ${text}`, { cause: thrown });
}

export async function guarded<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw queueError(thrown, what);
  }
}
