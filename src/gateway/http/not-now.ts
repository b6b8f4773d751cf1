import { redisFailure, type RedisFailureKind } from "../../core/redis-failure.ts";
import { errnoOf, isNoSpace } from "../../lib/errno.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";

/** Why a request that is right cannot be served at the moment: 503 with `Retry-After` (RFC 9110, 15.6.4), never 500. */
export interface NotNow {
  /** For the log, and to tell one trouble from another. */
  readonly kind: "queue" | "store" | "disk" | "machine" | "capacity";
  /** For the client, in plain words: nothing of ours, no path, no address. */
  readonly message: string;
  readonly retryAfterS: number;
}

/** Nobody has to act: a reconnect, a restart, a busy moment. */
const SOON_S = 5;
/** Somebody has to act: memory, a disk, permissions. */
const LATER_S = 30;

const QUEUE_AWAY: NotNow = { kind: "queue", message: "The queue does not answer now. Please try again.", retryAfterS: SOON_S };
const QUEUE_FULL: NotNow = { kind: "queue", message: "The queue takes no requests now. Please try again later.", retryAfterS: LATER_S };
const STORE_AWAY: NotNow = { kind: "store", message: "The object store does not answer now. Please try again.", retryAfterS: SOON_S };
const STORE_SHUT: NotNow = { kind: "store", message: "The object store cannot be used now. Please try again later.", retryAfterS: LATER_S };
const NO_ROOM: NotNow = { kind: "disk", message: "Files cannot be taken in now. Please try again later.", retryAfterS: LATER_S };
const NO_MEANS: NotNow = { kind: "machine", message: "The server has too much to do now. Please try again.", retryAfterS: SOON_S };
const NO_CAPACITY: NotNow = { kind: "capacity", message: "No capacity is available now. Please try again later.", retryAfterS: LATER_S };

/** Reads may go on, writes do not, and that stays so until somebody acts. */
const WRITES_REFUSED: ReadonlySet<RedisFailureKind> = new Set(["out-of-memory", "disk", "no-permission"]);

/** How ioredis says that a command did not come to an answer; what Redis itself answered is a ReplyError. */
const UNANSWERED = /Connection is closed|Stream isn't writeable|max retries per request|connection close|Command timed out/;

const NO_DISK: ReadonlySet<string | undefined> = new Set(["EROFS", "EACCES", "EPERM", "EIO"]);
const MAKES_FILES: ReadonlySet<unknown> = new Set(["mkdtemp", "mkdir"]);
const OUT_OF_MEANS: ReadonlySet<string | undefined> = new Set(["EMFILE", "ENFILE", "ENOMEM", "EAGAIN"]);

const OF_CODE: Readonly<Partial<Record<ErrorCode, NotNow>>> = {
  STORAGE_REJECTED: STORE_SHUT,
  SPOOL_FULL: NO_ROOM,
  CAPACITY_UNAVAILABLE: NO_CAPACITY,
};

/** Null for every other failure. */
export function notNow(thrown: unknown): NotNow | null {
  if (thrown instanceof AppError) return ofAppError(thrown);
  if (!(thrown instanceof Error)) return null;
  if (thrown.name === "ReplyError" || UNANSWERED.test(thrown.message)) return ofRedis(thrown);
  const code = errnoOf(thrown);
  if (!("errno" in thrown) || !("syscall" in thrown)) return null;
  if (OUT_OF_MEANS.has(code)) return NO_MEANS;
  const isLocal = !("address" in thrown);
  if (isLocal && (isNoSpace(thrown) || NO_DISK.has(code))) return NO_ROOM;
  // The folder for temporary files is gone.
  return MAKES_FILES.has(thrown.syscall) ? NO_ROOM : null;
}

function ofAppError(error: AppError): NotNow | null {
  const { code } = error;
  if (code === "REDIS_UNAVAILABLE") return ofRedis(error) ?? QUEUE_AWAY;
  if (code === "STORAGE_UNAVAILABLE") return isNoSpace(error.cause) ? STORE_SHUT : STORE_AWAY;
  return OF_CODE[code] ?? null;
}

function ofRedis(error: Error): NotNow | null {
  const failure = redisFailure(error);
  if (failure === null) return null;
  return failure.passing && !WRITES_REFUSED.has(failure.kind) ? QUEUE_AWAY : QUEUE_FULL;
}
