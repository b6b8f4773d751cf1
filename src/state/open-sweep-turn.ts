import { createHash, randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { openLease, type Lease } from "./open-lease.ts";
import { openSecrets } from "./open-secrets.ts";
import { onRedis } from "./redis-error.ts";

/** How far the sweep of the object store is, over all processes that take part in it. */
export interface SweepProgress {
  /** False during the pause after a sweep. */
  isDue(): Promise<boolean>;
  pause(ms: number): Promise<void>;
  /** The last key that was dealt with; null at the start. */
  cursor(): Promise<string | null>;
  /** Null: from the start. */
  setCursor(key: string | null): Promise<void>;
}

/** What the processes of one system share, so that one at a time sweeps and each goes on where the last one ended. */
export interface SweepTurn {
  readonly lease: Lease;
  readonly progress: SweepProgress;
  /** Names this system in the store, so that systems which share one by mistake notice each other. */
  readonly systemId: () => Promise<string>;
}

/** A sweep whose process was killed goes on after so long. */
const LEASE_MS = 60_000;

export function openSweepTurn(options: { readonly redis: Redis; readonly keys: Keys; readonly leaseMs?: number }): SweepTurn {
  const { redis, keys, leaseMs: ttlMs = LEASE_MS } = options;
  const { next, cursor, lease } = keys.sweep;
  const secrets = openSecrets({ redis, keys });
  return {
    lease: openLease({ redis, key: lease, holder: randomUUID(), ttlMs }),
    progress: {
      isDue: async () => (await onRedis("looking whether the store is to be swept", () => redis.exists(next))) === 0,
      pause: async (ms) => void (await onRedis("pausing the sweep of the store", () => redis.set(next, "1", "PX", ms))),
      cursor: () => onRedis("reading how far the store is swept", () => redis.get(cursor)),
      setCursor: (key) =>
        onRedis("recording how far the store is swept", async () => {
          await (key === null ? redis.del(cursor) : redis.set(cursor, key));
        }),
    },
    systemId: async () => {
      const secret = await secrets.get("system");
      return createHash("sha256").update(secret).digest("hex").slice(0, 16);
    },
  };
}
