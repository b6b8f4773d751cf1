import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import type { Redis } from "ioredis";
import { z } from "zod";
import { AppError } from "../protocol/error.ts";
import type { Keys } from "../protocol/keys.ts";
import { isUnreadable, orUnreadable, readStored, storedNumber, unixMs, type Unreadable } from "../protocol/stored.ts";
import { onRedis } from "./redis-error.ts";

export interface ClientRecord {
  /** Part of keys and channel names: 12 of a-z 0-9, or a name that an operator chose. */
  readonly id: string;
  readonly name: string;
  readonly enabled: boolean;
  /** Submits a minute and a day; null = the gateway's default, 0 = no limit. */
  readonly ratePerMinute: number | null;
  readonly ratePerDay: number | null;
  /** BullMQ priority of its jobs, 1 is the most urgent. */
  readonly priority: number;
  /** Unix milliseconds. */
  readonly createdAt: number;
}

export interface UnreadableClient extends Unreadable {
  readonly id: string;
}

export const clientSchema: z.ZodType<ClientRecord> = z.object({
  id: z.string(),
  name: z.string(),
  enabled: z.boolean(),
  ratePerMinute: z.number().nonnegative().nullable(),
  ratePerDay: z.number().nonnegative().nullable(),
  priority: z.number(),
  createdAt: unixMs,
});

export interface NewClient {
  readonly id?: string;
  readonly name: string;
  readonly ratePerMinute?: number | null;
  readonly ratePerDay?: number | null;
  readonly priority?: number;
}

/** API clients, hash `{p}:client:<id>`. Of a key only the hash is stored; a key is shown once. */
export interface Clients {
  /** @throws AppError CONFIG_INVALID when the id is taken or malformed */
  add(client: NewClient): Promise<{ readonly client: ClientRecord; readonly key: string }>;
  get(id: string): Promise<ClientRecord | null>;
  list(): Promise<readonly (ClientRecord | UnreadableClient)[]>;
  /** A new key; the old one is void at once. Null when there is no such client. */
  rotate(id: string): Promise<string | null>;
  /** False when there is no such client. */
  setEnabled(id: string, enabled: boolean): Promise<boolean>;
  /** The client of `<id>|<secret>`; null for anything else, and for one that is disabled. */
  authenticate(key: string): Promise<ClientRecord | null>;
}

const CLIENT_ID = /^[a-z0-9][a-z0-9_-]{0,31}$/;
const KEY = /^([a-z0-9][a-z0-9_-]{0,31})\|([A-Za-z0-9_-]{20,128})$/;
/** Compared with when there is no such client, so that both cases take as long. */
const NOBODY = hashOf("nobody");

export function openClients(options: { readonly redis: Redis; readonly keys: Keys; readonly now?: () => number }): Clients {
  const { redis, keys, now = Date.now } = options;
  const read = (id: string): Promise<Readonly<Record<string, string>>> =>
    onRedis(`reading client ${id}`, () => redis.hgetall(keys.client(id)));
  const exists = async (id: string): Promise<boolean> => (await read(id))["name"] !== undefined;
  return {
    add: async (init) => {
      const id = init.id ?? randomBytes(8).toString("hex").slice(0, 12);
      if (!CLIENT_ID.test(id)) throw new AppError("CONFIG_INVALID", `client id ${JSON.stringify(id)}: expected 1 to 32 of a-z 0-9 _ -`);
      const { key, secretHash } = makeKey(id);
      const client: ClientRecord = {
        id,
        name: init.name,
        enabled: true,
        ratePerMinute: init.ratePerMinute ?? null,
        ratePerDay: init.ratePerDay ?? null,
        priority: init.priority ?? 10,
        createdAt: now(),
      };
      await onRedis(`adding client ${id}`, async () => {
        if ((await redis.hsetnx(keys.client(id), "name", client.name)) === 0)
          throw new AppError("CONFIG_INVALID", `client ${id} exists already: choose another id, or rotate its key`);
        await redis.hset(keys.client(id), { ...toHash(client), secret_hash: secretHash });
        await redis.sadd(keys.clients, id);
      });
      return { client, key };
    },
    get: async (id) => fromHash(id, await read(id)),
    list: async () => {
      const ids = await onRedis("listing clients", () => redis.smembers(keys.clients));
      const readOne = async (id: string): Promise<ClientRecord | UnreadableClient | null> => {
        const found = await orUnreadable(read(id).then((hash) => fromHash(id, hash)));
        return isUnreadable(found) ? { id, ...found } : found;
      };
      const found = await Promise.all(ids.toSorted().map(readOne));
      return found.filter((client) => client !== null);
    },
    rotate: async (id) => {
      if (!(await exists(id))) return null;
      const { key, secretHash } = makeKey(id);
      await onRedis(`rotating the key of client ${id}`, () => redis.hset(keys.client(id), "secret_hash", secretHash));
      return key;
    },
    setEnabled: async (id, enabled) => {
      if (!(await exists(id))) return false;
      await onRedis(`changing client ${id}`, () => redis.hset(keys.client(id), "enabled", enabled ? "1" : "0"));
      return true;
    },
    authenticate: async (key) => {
      const [, id, secret] = KEY.exec(key) ?? [];
      if (id === undefined || secret === undefined) return null;
      const hash = await read(id);
      const wanted = Buffer.from(hash["secret_hash"] ?? NOBODY, "hex");
      const given = Buffer.from(hashOf(secret), "hex");
      const isRight = wanted.length === given.length && timingSafeEqual(wanted, given);
      // Nobody learns what ails the record of a client whose key he does not have.
      const client = isRight ? fromHash(id, hash) : null;
      return client?.enabled === true ? client : null;
    },
  };
}

function makeKey(id: string): { readonly key: string; readonly secretHash: string } {
  const secret = randomBytes(30).toString("base64url");
  return { key: `${id}|${secret}`, secretHash: hashOf(secret) };
}

/** The secret has 240 random bits: a plain hash of it cannot be searched. */
function hashOf(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

function toHash(client: ClientRecord): Record<string, string> {
  return {
    name: client.name,
    enabled: client.enabled ? "1" : "0",
    rate_per_minute: client.ratePerMinute === null ? "" : String(client.ratePerMinute),
    rate_per_day: client.ratePerDay === null ? "" : String(client.ratePerDay),
    priority: String(client.priority),
    created_at: String(client.createdAt),
  };
}

/** @throws AppError RECORD_UNREADABLE */
function fromHash(id: string, hash: Readonly<Record<string, string>>): ClientRecord | null {
  const { name } = hash;
  if (name === undefined) return null;
  return readStored(
    `client ${id}`,
    { schema: clientSchema, newest: 1 },
    {
      id,
      name,
      enabled: hash["enabled"] !== "0",
      ratePerMinute: storedNumber(hash["rate_per_minute"]),
      ratePerDay: storedNumber(hash["rate_per_day"]),
      priority: storedNumber(hash["priority"]) ?? 10,
      createdAt: storedNumber(hash["created_at"]) ?? 0,
    },
  );
}
