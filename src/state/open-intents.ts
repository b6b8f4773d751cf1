import type { Redis } from "ioredis";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "./redis-script.ts";
import type { Intents } from "./state-types.ts";

/** KEYS: intents of a model. ARGV: now, expiry, own field, limit. Expired entries do not count and are removed. */
const DECLARE = new RedisScript(`
local all = redis.call('HGETALL', KEYS[1])
local others = 0
local last = tonumber(ARGV[2])
for i = 1, #all, 2 do
  local expiry = tonumber(all[i + 1]) or 0
  if expiry <= tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[3] then
    others = others + 1
    last = math.max(last, expiry)
  end
end
if others >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[2])
redis.call('PEXPIRE', KEYS[1], last - ARGV[1] + 60000)
return 1`);

const fieldOf = (at: { readonly worker: string; readonly device: string }): string => `${at.worker}/${at.device}`;

export function openIntents(options: {
  readonly redis: Redis;
  readonly keys: Keys;
  readonly now?: () => number | Promise<number>;
}): Intents {
  const { redis, keys } = options;
  const now = options.now ?? serverClock(redis);
  return {
    declare: async (at) => {
      const answer = await onRedis(`declaring the load of ${at.model}`, async () => {
        const time = await now();
        return DECLARE.run(redis, [keys.intent(at.model)], [time, time + at.ttlMs, fieldOf(at), at.limit]);
      });
      return answer === 1;
    },
    withdraw: async (at) => {
      await onRedis(`withdrawing the load of ${at.model}`, () => redis.hdel(keys.intent(at.model), fieldOf(at)));
    },
    counts: async (models, exceptWorker) => {
      const [time, all] = await onRedis("reading load intents", () =>
        Promise.all([now(), Promise.all(models.map((model) => redis.hgetall(keys.intent(model))))]),
      );
      return new Map(
        models.map((model, index) => {
          const live = Object.entries(all[index] ?? {}).filter(
            ([field, expiry]) => Number(expiry) > time && !field.startsWith(`${exceptWorker}/`),
          );
          return [model, live.length];
        }),
      );
    },
  };
}
