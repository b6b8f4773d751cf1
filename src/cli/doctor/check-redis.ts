import type { RedisFailure } from "../../core/redis-failure.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

/** What `doctor` asks of Redis; readRedisFacts answers it. */
export interface RedisFacts {
  /** Why a test write failed; null when it went through. */
  readonly writeFailure: RedisFailure | null;
  /** INFO's fields. */
  readonly info: Readonly<Record<string, string>>;
  /** CONFIG GET, null where it is forbidden (managed services). */
  readonly config: Readonly<Record<string, string>> | null;
  /** Redis' clock less ours, milliseconds; half of the round trip is taken off. */
  readonly clockSkewMs: number;
  readonly pingMs: number;
}

const MIN_VERSION = [6, 2] as const;
const MAX_SKEW_MS = 2_000;
const SLOW_PING_MS = 50;

export function checkRedisFacts(facts: RedisFacts): readonly Finding[] {
  return [
    checkWrite(facts),
    checkMode(facts),
    checkVersion(facts),
    checkPolicy(facts),
    checkPersistence(facts),
    checkReplication(facts),
    checkClock(facts),
    checkLatency(facts),
  ].flat();
}

function checkWrite({ writeFailure }: RedisFacts): Finding {
  if (writeFailure === null) return ok("redis write", "a test write went through");
  return fail("redis write", writeFailure.words, writeFailure.advice);
}

function checkMode({ info }: RedisFacts): readonly Finding[] {
  if (info["cluster_enabled"] !== "1") return [];
  return [
    warn(
      "redis cluster",
      "this is a node of a cluster (cluster_enabled): it serves only while it holds the slot that all our keys are in, and redirections are not followed after a reshard or failover",
      "use a Redis that is not a cluster: one slot gains nothing by it; for failover use sentinels (redis+sentinel:)",
    ),
  ];
}

function checkVersion({ info }: RedisFacts): Finding {
  const version = info["redis_version"] ?? "unknown";
  const [major = 0, minor = 0] = version.split(".").map(Number);
  const isNew = major > MIN_VERSION[0] || (major === MIN_VERSION[0] && minor >= MIN_VERSION[1]);
  if (isNew) return ok("redis version", version);
  return fail("redis version", `${version} is older than ${MIN_VERSION.join(".")}`, "upgrade redis-server");
}

function checkPolicy({ info, config }: RedisFacts): Finding {
  const policy = info["maxmemory_policy"] ?? config?.["maxmemory-policy"] ?? "unknown";
  if (policy === "noeviction") return ok("redis memory policy", policy);
  return fail(
    "redis memory policy",
    `maxmemory-policy is ${policy}: Redis may throw jobs away when it is short of memory`,
    "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
  );
}

function checkPersistence({ info }: RedisFacts): Finding {
  if (info["aof_enabled"] !== "1") {
    return warn(
      "redis persistence",
      "AOF is off: a crash of Redis loses every job since the last snapshot",
      "CONFIG SET appendonly yes, and the same in redis.conf",
    );
  }
  if (info["aof_last_write_status"] === "err")
    return fail("redis persistence", "the last write to the AOF failed", "look for a full disk where Redis keeps its data");
  return ok("redis persistence", "AOF is on");
}

function checkReplication({ info, config }: RedisFacts): readonly Finding[] {
  if (info["role"] === "slave")
    return [
      fail(
        "redis role",
        "this is a replica: nothing can be written",
        "set REDIS_URL to the primary, or to the sentinels (redis+sentinel:), which know it",
      ),
    ];
  const replicas = Number(info["connected_slaves"] ?? "0");
  if (replicas === 0 || config === null || Number(config["min-replicas-to-write"] ?? "0") >= 1) return [];
  return [
    warn(
      "redis failover",
      `${replicas} replicas and min-replicas-to-write 0: a failover may lose accepted jobs`,
      "CONFIG SET min-replicas-to-write 1",
    ),
  ];
}

function checkClock({ clockSkewMs }: RedisFacts): Finding {
  const skew = `${Math.abs(Math.round(clockSkewMs))} ms ${clockSkewMs < 0 ? "behind" : "ahead of"} this machine`;
  if (Math.abs(clockSkewMs) <= MAX_SKEW_MS) return ok("clock", `Redis' clock is ${skew}`);
  return warn(
    "clock",
    `Redis' clock is ${skew}: waiting times and retries are off by as much`,
    "turn on NTP on both machines (timedatectl set-ntp true)",
  );
}

function checkLatency({ pingMs }: RedisFacts): Finding {
  const text = `${pingMs.toFixed(1)} ms`;
  if (pingMs <= SLOW_PING_MS) return ok("redis latency", text);
  return warn("redis latency", `${text}: every claim and event waits for it`, "move Redis nearer to its workers");
}
