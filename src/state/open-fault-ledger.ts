import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";
import type { FaultLedger } from "./state-types.ts";

/** KEYS: set. ARGV: member, ttl ms. Returns all members. */
const ADD = new RedisScript(`
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('SMEMBERS', KEYS[1])`);

/** Marks a claim's fault as the device's in the set of the job's faults. */
const ON_DEVICE = ":device";

export function openFaultLedger(options: { readonly redis: Redis; readonly keys: Keys; readonly ttlMs: number }): FaultLedger {
  const { redis, keys, ttlMs } = options;
  const add = async (what: string, key: string, member: string): Promise<readonly string[]> =>
    (await onRedis(what, () => ADD.run(redis, [key], [member, ttlMs]))) as readonly string[];
  return {
    recordFault: async (id, claim, blamed) => {
      const member = `${claim}${blamed === "device" ? ON_DEVICE : ""}`;
      const all = await add(`recording a device fault of job ${id}`, keys.faults(id), member);
      const onDevice = all.filter((each) => each.endsWith(ON_DEVICE)).length;
      return { onDevice, onJob: all.length - onDevice };
    },
    recordPassOn: async (id, worker) => (await add(`recording that job ${id} is passed on`, keys.passed(id), worker)).length,
    passedOnBy: async (id) => new Set(await onRedis(`reading who passed on job ${id}`, () => redis.smembers(keys.passed(id)))),
  };
}
