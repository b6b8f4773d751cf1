import type { Redis } from "ioredis";
import { serverClock } from "../lib/server-clock.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { hashFromPairs, RedisScript } from "../lib/redis-script.ts";
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

/** KEYS: intents of models. Returns place and all fields of those that have any: one command when none has. */
const DECLARED = new RedisScript(`
local found = {}
if redis.call('EXISTS', unpack(KEYS)) == 0 then return found end
for place, key in ipairs(KEYS) do
  local all = redis.call('HGETALL', key)
  if #all > 0 then found[#found + 1] = { place, all } end
end
return found`);

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
      const counts = new Map(models.map((model) => [model, 0]));
      if (models.length === 0) return counts;
      await onRedis("reading load intents", async () => {
        const keyNames = models.map((model) => keys.intent(model));
        const found = (await DECLARED.run(redis, keyNames, [])) as readonly (readonly [place: number, pairs: readonly string[]])[];
        // Hardly ever is anything being loaded: then the time is not asked for either.
        const time = found.length === 0 ? 0 : await now();
        for (const [place, pairs] of found) {
          const live = Object.entries(hashFromPairs(pairs)).filter(
            ([field, expiry]) => Number(expiry) > time && !field.startsWith(`${exceptWorker}/`),
          );
          counts.set(models[place - 1] ?? "", live.length);
        }
      });
      return counts;
    },
  };
}
