import { CERTIFICATE_TROUBLES } from "../lib/certificate-trouble.ts";
import { AppError } from "../protocol/error.ts";

/**
 * Why Redis did not do what it was asked.
 *   passing   it may be over in a moment without anybody's help: a running program tries again, a starting one waits a while
 *   lasting   an operator has to change something; a running program still tries again, a starting one ends
 */
export interface RedisFailure {
  readonly kind: RedisFailureKind;
  readonly passing: boolean;
  /** In plain words, without a full stop. */
  readonly words: string;
  readonly advice: string;
}

interface Row {
  readonly kind: string;
  /** In messages and error codes of Redis, ioredis, sockets and TLS. Scripts put Redis' own word behind others, so it may stand anywhere. */
  readonly matches: RegExp;
  readonly passing: boolean;
  readonly words: string;
  readonly advice: string;
}

/** The first row that matches counts: what Redis said comes before what the connection said of its end. */
const ROWS = [
  {
    kind: "wrong-password",
    matches: /WRONGPASS|invalid password|invalid username-password/,
    passing: false,
    words: "Redis refuses the password",
    advice: "set user and password in REDIS_URL to what the server expects (redis://user:password@host)",
  },
  {
    kind: "no-password",
    matches: /NOAUTH|Authentication required/,
    passing: false,
    words: "Redis wants a password and REDIS_URL has none",
    advice: "put it into REDIS_URL (redis://user:password@host)",
  },
  {
    kind: "no-permission",
    matches: /NOPERM/,
    passing: false,
    words: "the Redis user may not run a command that is needed",
    advice: "give it +@all on the keys and channels {<namespace>}:* (ACL SETUSER ... ~{dryapi}:* &{dryapi}:* +@all)",
  },
  {
    kind: "protected",
    matches: /DENIED Redis is running in protected mode/,
    passing: false,
    words: "Redis is in protected mode and takes connections from its own machine only",
    advice: "set a password and bind address in redis.conf",
  },
  {
    kind: "cluster",
    matches: /\b(?:MOVED|ASK) \d|CROSSSLOT|SELECT is not allowed in cluster mode/,
    passing: false,
    words: "this Redis is a node of a cluster (cluster_enabled) that does not hold our keys, and redirections are not followed",
    advice: "set REDIS_URL to a Redis that is not a cluster: all keys are in one slot, so a cluster gains nothing",
  },
  {
    kind: "wrong-db",
    matches: /DB index is out of range|invalid DB index/,
    passing: false,
    words: "Redis has no database of that number",
    advice: "set a database below the server's `databases` (16) at the end of REDIS_URL, or none",
  },
  ...CERTIFICATE_TROUBLES.map(({ kind, matches, words, advice }) => ({
    kind: `tls-${kind}` as const,
    matches,
    passing: false,
    words,
    advice,
  })),
  {
    kind: "tls",
    matches: /SSL routines|wrong version number|packet length too long|ERR_SSL|ERR_TLS|EPROTO|certificate|CERT_/,
    passing: false,
    words: "no TLS connection to Redis can be made",
    advice: "use redis: for a server without TLS and rediss: for one with it; one that wants certificates of its clients is not supported",
  },
  {
    kind: "too-old",
    matches: /unknown command/i,
    passing: false,
    words: "Redis does not know a command that is needed",
    advice: "use Redis 6.2 or newer, with no command renamed",
  },
  {
    kind: "no-redis",
    matches: /Unknown RESP type|Protocol error, got/,
    passing: false,
    words: "what answers there does not speak Redis' protocol",
    advice: "set host and port of REDIS_URL to a Redis (an HTTP server or a TLS port answers otherwise)",
  },
  {
    kind: "loading",
    matches: /LOADING/,
    passing: true,
    words: "Redis is loading its data from disk",
    advice: "wait until it has; INFO persistence shows how far it is",
  },
  {
    kind: "read-only",
    matches: /READONLY/,
    passing: true,
    words: "this Redis is a replica that takes no writes",
    advice: "set REDIS_URL to the primary, or to the sentinels (redis+sentinel:), which know it",
  },
  {
    kind: "no-replicas",
    matches: /NOREPLICAS/,
    passing: true,
    words: "Redis takes no writes while too few replicas are connected",
    advice: "start them, or lower min-replicas-to-write",
  },
  {
    kind: "out-of-memory",
    matches: /\bOOM\b/,
    passing: true,
    words: "Redis is out of memory (maxmemory) and takes no writes",
    advice: "raise maxmemory, or find what fills it (redis-cli --bigkeys); keep maxmemory-policy noeviction",
  },
  {
    kind: "disk",
    matches: /MISCONF/,
    passing: true,
    words: "Redis cannot write to its disk and takes no writes",
    advice: "look for a full or read-only disk where Redis keeps its data, and into its log",
  },
  {
    kind: "cluster-down",
    matches: /CLUSTERDOWN|TRYAGAIN|MASTERDOWN/,
    passing: true,
    words: "the Redis cluster, or this replica's primary, is down",
    advice: "look at the nodes (CLUSTER INFO); the slot of {<namespace>} needs a live primary",
  },
  {
    kind: "busy",
    matches: /\bBUSY /,
    passing: true,
    words: "Redis is busy with somebody's script",
    advice: "wait, or end it with SCRIPT KILL",
  },
  {
    kind: "full",
    matches: /max number of clients reached/,
    passing: true,
    words: "Redis takes no more connections",
    advice: "raise maxclients, or close other clients",
  },
  {
    kind: "silent",
    matches: /^SILENT$/,
    passing: true,
    words: "what is there accepts connections and says nothing: Redis is loading its data from disk, or it is frozen",
    advice: "wait, and look at its process, its machine and what stands between",
  },
  {
    kind: "away",
    matches:
      /Connection is closed|Stream isn't writeable|max retries per request|aborted due to connection close|All sentinels are unreachable|ECONNREFUSED|ECONNRESET|ENOENT|EACCES|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN|Command timed out|Blocking timeout|no Redis for/,
    passing: true,
    words: "Redis does not answer",
    advice: "start it, or check host, port and TLS (rediss:) of REDIS_URL",
  },
] as const satisfies readonly Row[];

export type RedisFailureKind = (typeof ROWS)[number]["kind"];

/** What an error of ioredis, BullMQ, a socket or Redis itself means; null for one that says nothing about Redis' condition. */
export function redisFailure(thrown: unknown): RedisFailure | null {
  if (thrown instanceof RedisError) return thrown.failure;
  const text = textOf(thrown);
  const code = thrown instanceof Error && "code" in thrown ? String(thrown.code) : "";
  const found = ROWS.find(({ matches }) => matches.test(text) || matches.test(code));
  return found ?? null;
}

/** A step that Redis did not do, with the cause in plain words and what to do about it. */
export class RedisError extends AppError {
  readonly failure: RedisFailure;

  constructor(what: string, failure: RedisFailure, cause: unknown) {
    super("REDIS_UNAVAILABLE", `${what}: ${failure.words} (${textOf(cause)}); ${failure.advice}`, { cause });
    this.failure = failure;
  }
}

function textOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  // An AggregateError of several addresses has no message of its own.
  return thrown.message || ("code" in thrown ? String(thrown.code) : thrown.name);
}
