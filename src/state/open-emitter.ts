import type { Redis } from "ioredis";
import { EVENT_VERSION, type JobEventDraft } from "../protocol/event.ts";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";
import { RedisScript } from "../lib/redis-script.ts";
import type { EmitAnswer, Emitter } from "./state-types.ts";

/**
 * The event gets its sequence number by text, not by decoding: a preview would have to be parsed for nothing. The last event is kept
 * without its preview, which has a field of its own; a new claim does not keep the preview of the one before.
 */
const STORE = `
local function store(live, ttl, channel, claim, event, preview, ended)
  local seq = redis.call('HINCRBY', live, 'seq', 1)
  if redis.call('HGET', live, 'claim') ~= claim then redis.call('HDEL', live, 'preview') end
  local time = redis.call('TIME')
  local head = string.format('{"v":${EVENT_VERSION},"seq":%d,"at":%.0f', seq, math.floor(time[1] * 1000 + time[2] / 1000))
  redis.call('HSET', live, 'claim', claim, 'event', head .. event .. '}', 'ended', ended)
  if preview ~= '' then redis.call('HSET', live, 'preview', preview) end
  redis.call('PEXPIRE', live, ttl)
  local shown = preview == '' and '' or ',"preview":"' .. preview .. '"'
  redis.call('PUBLISH', channel, head .. event .. shown .. '}')
end`;

/**
 * KEYS: lock, live value, request record. ARGV: token, ttl ms, channel, claim, event, preview.
 * Returns lock held (0 or 1), cancelled (0 or 1). Without the lock nothing is stored or published.
 */
const EMIT = new RedisScript(`${STORE}
local cancelled = redis.call('HGET', KEYS[3], 'cancelled_at')
local mark = (cancelled and cancelled ~= '') and 1 or 0
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return { 0, mark } end
store(KEYS[2], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], '0')
return { 1, mark }`);

/**
 * KEYS: live value. ARGV: ttl ms, channel, claim, event, ended. The lock is gone by now, so the claim number is the fence: a newer claim,
 * or an end already told for this one, wins.
 */
const EMIT_END = new RedisScript(`${STORE}
local known = redis.call('HMGET', KEYS[1], 'claim', 'ended')
local claim = tonumber(known[1] or '0')
if claim > tonumber(ARGV[3]) or (claim == tonumber(ARGV[3]) and known[2] == '1') then return 0 end
redis.call('HDEL', KEYS[1], 'preview')
store(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], '', ARGV[5])
return 1`);

export function openEmitter(options: { readonly redis: Redis; readonly keys: Keys; readonly ttlMs: number }): Emitter {
  const { redis, keys, ttlMs } = options;
  return {
    emit: async (target, draft) => {
      const { id, queue, token, claim, client } = target;
      const { event, preview } = encode(draft);
      const answer = await onRedis(`publishing ${draft.type} of job ${id}`, () =>
        EMIT.run(
          redis,
          [keys.lock(queue, id), keys.live(id), keys.request(id)],
          [token, ttlMs, keys.events(client), claim, event, preview],
        ),
      );
      return toAnswer(answer);
    },
    emitEnd: async (target, draft) => {
      const { id, claim, client } = target;
      const ended = draft.type === "requeued" ? 0 : 1;
      const answer = await onRedis(`publishing ${draft.type} of job ${id}`, () =>
        EMIT_END.run(redis, [keys.live(id)], [ttlMs, keys.events(client), claim, encode(draft).event, ended]),
      );
      return answer === 1;
    },
  };
}

/** The fields of the event as `,"a":1,...`, to be put behind the sequence number. Base64 needs no escaping. */
function encode({ preview, ...rest }: JobEventDraft): { readonly event: string; readonly preview: string } {
  return { event: `,${JSON.stringify(rest).slice(1, -1)}`, preview: preview ?? "" };
}

function toAnswer(answer: unknown): EmitAnswer {
  const [held, cancelled] = answer as readonly [number, number];
  return { lockHeld: held === 1, cancelled: cancelled === 1 };
}
