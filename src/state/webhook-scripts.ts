import { RedisScript } from "../lib/redis-script.ts";

/** Unix milliseconds by Redis' clock, as a text. */
const NOW = `
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
`;

/** Makes `fresh` the account's secret; the one it replaces goes on for `overlap` ms, and one before that ends. */
const TAKE_SECRET = `${NOW}
local function take(hook, current, previous, fresh, overlap)
  local old = redis.call('GET', current)
  redis.call('DEL', previous)
  if old and tonumber(overlap) > 0 then redis.call('SET', previous, old, 'PX', overlap) end
  redis.call('SET', current, fresh)
  redis.call('HSET', hook, 'secret_at', now)
end
`;

/**
 * KEYS: settings, secret, previous secret, mark of the URL. ARGV: url, enabled, unix ms, new secret, rotate (1 or 0), overlap ms. Returns 1
 * when the new secret was taken.
 */
export const CHANGE: RedisScript = new RedisScript(`${TAKE_SECRET}
redis.call('HSET', KEYS[1], 'url', ARGV[1], 'enabled', ARGV[2], 'updated_at', ARGV[3])
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[1], 'failures', '0', 'disabled_at', '', 'disabled_reason', '')
  redis.call('DEL', KEYS[4])
end
if ARGV[5] == '0' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
take(KEYS[1], KEYS[2], KEYS[3], ARGV[4], ARGV[6])
return 1`);

/** KEYS: settings, secret, previous secret. ARGV: new secret, replace (1 or 0), overlap ms. Returns 1 when the new secret was taken. */
export const SECRET: RedisScript = new RedisScript(`${TAKE_SECRET}
if ARGV[2] == '0' and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
take(KEYS[1], KEYS[2], KEYS[3], ARGV[1], ARGV[3])
return 1`);

/** KEYS: settings, secret, previous secret. Returns the settings, whether there is a secret (1 or 0), and the previous one's end or ''. */
export const SETTINGS: RedisScript = new RedisScript(`${NOW}
local left = redis.call('PTTL', KEYS[3])
local ends = left > 0 and string.format('%.0f', tonumber(now) + left) or ''
return { redis.call('HGETALL', KEYS[1]), redis.call('EXISTS', KEYS[2]), ends }`);

/** KEYS: settings. ARGV: url, unix ms, limit. A URL that is not the account's any more counts for nothing. */
export const EXHAUSTED: RedisScript = new RedisScript(`
if redis.call('HGET', KEYS[1], 'url') ~= ARGV[1] then return 0 end
local count = redis.call('HINCRBY', KEYS[1], 'failures', 1)
if count < tonumber(ARGV[3]) or redis.call('HGET', KEYS[1], 'enabled') ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'enabled', '0', 'disabled_at', ARGV[2], 'disabled_reason', 'failures')
return 1`);

/** KEYS: settings, mark of the URL. ARGV: url. */
export const SUCCESS: RedisScript = new RedisScript(`
redis.call('DEL', KEYS[2])
if redis.call('HGET', KEYS[1], 'url') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'failures', '0')
return 1`);

/** KEYS: settings, mark of the URL. ARGV: the account's URL if this is it, else ''; life of the mark, ms. Returns 1 when that switched it off. */
export const GONE: RedisScript = new RedisScript(`${NOW}
redis.call('SET', KEYS[2], now, 'PX', ARGV[2])
if redis.call('HGET', KEYS[1], 'url') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'enabled') ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'enabled', '0', 'disabled_at', now, 'disabled_reason', 'gone')
return 1`);
