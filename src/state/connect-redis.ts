import { isIP } from "node:net";
import { Redis, type RedisOptions } from "ioredis";
import { AppError } from "../protocol/error.ts";

/**
 * What a connection is for:
 *   worker      fails at once while Redis is away; what was sent and not answered fails with the connection. Its callers repeat: ioredis
 *               would send a claim again that nobody waits for any more, and take a job away
 *   recorder    as worker, and commands of one moment go out together; not for BullMQ, see adder
 *   blocking    one blocking read at a time, which fails with the connection: sent again, it would block what its caller asks next
 *   subscriber  in subscriber mode; waits out an outage
 *   producer    fails fast, so that a submit can be refused instead of hanging; commands of one moment go out together
 *   adder       as producer, for BullMQ: it defines a hundred scripts on its connection, and ioredis goes through all of them for every
 *               pipeline it makes
 */
export type RedisRole = "worker" | "recorder" | "blocking" | "subscriber" | "producer" | "adder";

export interface ConnectOptions {
  /** redis:, rediss:, unix:/path, or redis+sentinel://host:port,host:port/master */
  readonly url: string;
  readonly role: RedisRole;
  readonly onError?: (error: Error) => void;
}

/** While Redis is away a worker's command waits so long before it is given up as unanswered; its caller repeats it. */
const COMMAND_TIMEOUT_MS = 10_000;

/** A failover loses no acknowledged write with these, given `min-replicas-to-write 1` on the server. */
const COMMON: RedisOptions = {
  connectTimeout: 5_000,
  // Redis does not see that a blocked client has hung up, and a connection that was lost does not end again: ioredis would keep the process
  // up for two seconds after disconnect().
  disconnectTimeout: 50,
  keepAlive: 30_000,
  retryStrategy: (times) => Math.min(2_000, 50 * 2 ** Math.min(times, 6)),
  // A demoted primary answers so: the next connection may find the new one. 1 = the command fails with these words. Sent again by ioredis
  // it would go round until its time is up, on a server that stays a replica, and fail without the cause.
  reconnectOnError: (error) => (/READONLY|NOREPLICAS/.test(error.message) ? 1 : false),
};

const BY_ROLE: Readonly<Record<RedisRole, RedisOptions>> = {
  worker: { maxRetriesPerRequest: 0, commandTimeout: COMMAND_TIMEOUT_MS },
  recorder: { enableAutoPipelining: true, maxRetriesPerRequest: 0, commandTimeout: COMMAND_TIMEOUT_MS },
  blocking: { maxRetriesPerRequest: 0 },
  subscriber: { maxRetriesPerRequest: null },
  producer: { enableAutoPipelining: true, maxRetriesPerRequest: 1, commandTimeout: COMMAND_TIMEOUT_MS },
  adder: { maxRetriesPerRequest: 1, commandTimeout: COMMAND_TIMEOUT_MS },
};

/** Opens a connection; it connects in the background and reconnects for ever. No password appears in any error. @throws AppError CONFIG_INVALID */
export function connectRedis(options: ConnectOptions): Redis {
  const redis = new Redis({ ...COMMON, ...BY_ROLE[options.role], ...addressOf(options.url), replyMapping: "legacy" });
  // From the first connection on nothing is queued for later: a claim that is sent when nobody waits for it any more would take a job away.
  if (options.role !== "blocking" && options.role !== "subscriber") redis.once("ready", () => (redis.options.enableOfflineQueue = false));
  if (options.role === "adder") writeTogether(redis);
  // Without a listener ioredis prints errors; an outage is told by those whose commands fail.
  redis.on("error", (error: Error) => options.onError?.(error));
  return redis;
}

/** Commands of one turn of the event loop leave in one write: each write is a system call, and a fifth of a submit's time. */
function writeTogether(redis: Redis): void {
  let corked: Redis["stream"] | null = null;
  const send = redis.sendCommand.bind(redis);
  redis.sendCommand = (command, stream) => {
    if (corked === null && redis.status === "ready") {
      corked = redis.stream;
      corked.cork();
      setImmediate(() => {
        corked?.uncork();
        corked = null;
      });
    }
    return send(command, stream);
  };
}

function addressOf(text: string): RedisOptions {
  if (text.startsWith("/")) return { path: text };
  if (text.startsWith("redis+sentinel:")) return sentinelOf(text);
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol === "unix:" || url?.protocol === "redis+unix:") {
    return { path: decodeURIComponent(url.pathname), ...credentials(url), db: Number(url.searchParams.get("db") ?? 0) };
  }
  if (url === null || (url.protocol !== "redis:" && url.protocol !== "rediss:")) {
    const scheme = url?.protocol ?? "none";
    throw new AppError("CONFIG_INVALID", `REDIS_URL has scheme ${scheme}, expected redis:, rediss:, unix: or redis+sentinel:`);
  }
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return {
    host,
    port: url.port === "" ? 6379 : Number(url.port),
    db: Number(url.pathname.slice(1) || 0),
    ...credentials(url),
    // A certificate names hosts; of an address there is nothing to ask for.
    ...(url.protocol === "rediss:" && { tls: isIP(host) === 0 ? { servername: host } : {} }),
  };
}

function credentials(url: URL): RedisOptions {
  return {
    ...(url.username !== "" && { username: decodeURIComponent(url.username) }),
    ...(url.password !== "" && { password: decodeURIComponent(url.password) }),
  };
}

/** `redis+sentinel://[user:password@]host:port,host:port/master[?db=0]` */
function sentinelOf(text: string): RedisOptions {
  const match = /^redis\+sentinel:\/\/(?:([^:@]*):([^@]*)@)?([^/?]+)\/([^?]+)(?:\?db=(\d+))?$/.exec(text);
  const [, username, password, hosts, name, db] = match ?? [];
  if (hosts === undefined || name === undefined)
    throw new AppError("CONFIG_INVALID", "REDIS_URL is no sentinel address; expected redis+sentinel://host:26379,host:26379/master-name");
  return {
    sentinels: hosts.split(",").map((host) => {
      const [address, port] = host.split(":");
      return { host: address ?? host, port: Number(port ?? 26_379) };
    }),
    name,
    failoverDetector: true,
    db: Number(db ?? 0),
    ...(username !== undefined && username !== "" && { username: decodeURIComponent(username) }),
    ...(password !== undefined && password !== "" && { password: decodeURIComponent(password) }),
  };
}
