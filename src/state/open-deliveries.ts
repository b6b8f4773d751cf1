import type { Redis } from "ioredis";
import { z } from "zod";
import type { Keys } from "../protocol/keys.ts";
import { SIGNERS, WEBHOOK_EVENTS, type Signer, type WebhookEventName } from "../protocol/webhook.ts";
import { isUnreadable, orUnreadable, readStored, storedJson, storedNumber, unixMs, type Unreadable } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";
import { hashFromPairs, RedisScript } from "../lib/redis-script.ts";

export interface DeliveryAttempt {
  /** Counted over redeliveries, from 1. */
  readonly number: number;
  /** Unix milliseconds of its start. */
  readonly at: number;
  readonly durationMs: number;
  /** Null when there was no answer. */
  readonly status: number | null;
  /** Why there was none. */
  readonly error: string | null;
  /** The first 4 KiB of the answer's body. */
  readonly answer: string | null;
  /** The secret of the contract's signature header; null: unsigned, or not sent. */
  readonly signedWith: Signer | null;
}

export type DeliveryState = "pending" | "delivered" | "failed";

/** What stays the same over all attempts. */
export interface NewDelivery {
  readonly id: string;
  readonly requestId: string;
  readonly client: string;
  readonly event: WebhookEventName;
  readonly url: string;
  readonly secretRef: string | null;
  /** Exactly as it is sent, each time. */
  readonly body: string;
  /** Unix milliseconds. */
  readonly createdAt: number;
}

export interface Delivery extends NewDelivery {
  readonly state: DeliveryState;
  /** Unix milliseconds; null before the first attempt and after the last. */
  readonly nextAttemptAt: number | null;
  /** How often its client has asked for it again. */
  readonly redeliveries: number;
  /** In all; the log keeps the newest. */
  readonly attemptCount: number;
  readonly attempts: readonly DeliveryAttempt[];
}

export interface UnreadableDelivery extends Unreadable {
  readonly id: string;
}

export interface AttemptOutcome {
  readonly attempt: Omit<DeliveryAttempt, "number">;
  readonly state: DeliveryState;
  readonly nextAttemptAt: number | null;
}

/** The delivery log, hashes `{p}:delivery:<id>`. */
export interface Deliveries {
  /** Writes the delivery unless there is one; returns the one that there is: its body is the one to send. */
  create(delivery: NewDelivery): Promise<Delivery>;
  get(id: string): Promise<Delivery | null>;
  /** Of one request, oldest first, unreadable ones last. */
  ofRequest(requestId: string): Promise<readonly (Delivery | UnreadableDelivery)[]>;
  /** True when this has ended the delivery; false while it goes on, when it had ended, or is gone. */
  record(delivery: Pick<NewDelivery, "id" | "requestId">, outcome: AttemptOutcome): Promise<boolean>;
  /**
   * Makes an ended delivery pending again. Returns the number of the redelivery, also when one was asked for already and has not begun;
   * null while its attempts go on.
   */
  reopen(id: string): Promise<number | null>;
}

/** Attempts in the log of one delivery. */
const MAX_LOGGED = 30;
/** Longer than the schedule of the attempts: a body must not vanish between two of them. */
const MIN_TTL_MS = 36 * 3_600_000;

/** KEYS: delivery, the request's deliveries. ARGV: ttl ms, id, field, value ... */
const CREATE = new RedisScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return redis.call('HGETALL', KEYS[1])`);

/** KEYS: delivery, the request's deliveries. ARGV: ttl ms, attempt (JSON), state, next attempt, most attempts kept. */
const RECORD = new RedisScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local before = redis.call('HGET', KEYS[1], 'state')
local number = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('HSET', KEYS[1], 'attempt:' .. number, ARGV[2], 'state', ARGV[3], 'next_attempt_at', ARGV[4], 'begun', '1')
redis.call('HDEL', KEYS[1], 'attempt:' .. (number - tonumber(ARGV[5])))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return before == 'pending' and ARGV[3] ~= 'pending' and 1 or 0`);

/** KEYS: delivery. */
const REOPEN = new RedisScript(`
local known = redis.call('HMGET', KEYS[1], 'state', 'begun', 'redeliveries')
if not known[1] then return 0 end
if known[1] == 'pending' then return known[2] == '1' and 0 or tonumber(known[3] or '0') end
redis.call('HSET', KEYS[1], 'state', 'pending', 'begun', '0', 'next_attempt_at', '')
return redis.call('HINCRBY', KEYS[1], 'redeliveries', 1)`);

export function openDeliveries(options: { readonly redis: Redis; readonly keys: Keys; readonly retentionMs: number }): Deliveries {
  const { redis, keys } = options;
  const ttlMs = Math.max(options.retentionMs, MIN_TTL_MS);
  const get = async (id: string): Promise<Delivery | null> => {
    const hash = await onRedis(`reading delivery ${id}`, () => redis.hgetall(keys.delivery(id)));
    return hash["body"] === undefined ? null : fromHash(id, hash);
  };
  return {
    get,
    create: async (delivery) => {
      const { id, requestId } = delivery;
      const pairs = await onRedis(`recording delivery ${id}`, () =>
        CREATE.run(redis, [keys.delivery(id), keys.deliveries(requestId)], [ttlMs, id, ...Object.entries(toHash(delivery)).flat()]),
      );
      return fromHash(id, hashFromPairs(pairs as readonly string[]));
    },
    ofRequest: async (requestId) => {
      const ids = await onRedis(`reading deliveries of request ${requestId}`, () => redis.smembers(keys.deliveries(requestId)));
      const getOne = async (id: string): Promise<Delivery | UnreadableDelivery | null> => {
        const found = await orUnreadable(get(id));
        return isUnreadable(found) ? { id, ...found } : found;
      };
      const timeOf = (delivery: Delivery | UnreadableDelivery): number => ("createdAt" in delivery ? delivery.createdAt : Infinity);
      const found = await Promise.all(ids.map(getOne));
      return found.filter((delivery) => delivery !== null).toSorted((a, b) => (timeOf(a) < timeOf(b) ? -1 : 1));
    },
    record: async ({ id, requestId }, { attempt, state, nextAttemptAt }) => {
      const args = [ttlMs, JSON.stringify(attempt), state, nextAttemptAt ?? "", MAX_LOGGED];
      return (
        (await onRedis(`recording an attempt of delivery ${id}`, () =>
          RECORD.run(redis, [keys.delivery(id), keys.deliveries(requestId)], args),
        )) === 1
      );
    },
    reopen: async (id) => {
      const number = (await onRedis(`reopening delivery ${id}`, () => REOPEN.run(redis, [keys.delivery(id)], []))) as number;
      return number === 0 ? null : number;
    },
  };
}

type Hash = Readonly<Record<string, string>>;

function toHash(delivery: NewDelivery): Hash {
  return {
    request_id: delivery.requestId,
    client: delivery.client,
    event: delivery.event,
    url: delivery.url,
    secret_ref: delivery.secretRef ?? "",
    body: delivery.body,
    created_at: String(delivery.createdAt),
    state: "pending",
  };
}

export const attemptSchema: z.ZodType<Omit<DeliveryAttempt, "number">> = z.object({
  at: unixMs,
  durationMs: z.number(),
  status: z.number().nullable(),
  error: z.string().nullable(),
  answer: z.string().nullable(),
  // Attempts of earlier versions do not say it.
  signedWith: z.enum(SIGNERS).nullable().default(null),
});

export const deliverySchema: z.ZodType<Omit<Delivery, "attempts">> = z.object({
  id: z.string(),
  requestId: z.string().min(1),
  client: z.string().min(1),
  event: z.enum(WEBHOOK_EVENTS),
  url: z.string(),
  secretRef: z.string().nullable(),
  body: z.string(),
  createdAt: unixMs,
  state: z.enum(["pending", "delivered", "failed"]),
  nextAttemptAt: unixMs.nullable(),
  redeliveries: z.number(),
  attemptCount: z.number().nonnegative(),
});

/** @throws AppError RECORD_UNREADABLE */
function fromHash(id: string, hash: Hash): Delivery {
  const delivery = readStored(
    `delivery ${id}`,
    { schema: deliverySchema, newest: 1 },
    {
      id,
      requestId: hash["request_id"],
      client: hash["client"],
      event: hash["event"],
      url: hash["url"],
      secretRef: emptyIsNull(hash["secret_ref"]),
      body: hash["body"],
      createdAt: storedNumber(hash["created_at"]),
      state: hash["state"],
      nextAttemptAt: storedNumber(hash["next_attempt_at"]),
      redeliveries: storedNumber(hash["redeliveries"]) ?? 0,
      attemptCount: storedNumber(hash["attempts"]) ?? 0,
    },
  );
  const first = Math.max(1, delivery.attemptCount - MAX_LOGGED + 1);
  const numbers = Array.from({ length: Math.min(MAX_LOGGED, delivery.attemptCount) }, (_, index) => first + index);
  return { ...delivery, attempts: numbers.flatMap((number) => attemptOf(number, hash[`attempt:${number}`])) };
}

/** An attempt that cannot be read is one line less in the log. */
function attemptOf(number: number, json: string | undefined): readonly DeliveryAttempt[] {
  const parsed = attemptSchema.safeParse(storedJson(json));
  return parsed.success ? [{ ...parsed.data, number }] : [];
}

function emptyIsNull(text: string | undefined): string | null {
  return text === undefined || text === "" ? null : text;
}
