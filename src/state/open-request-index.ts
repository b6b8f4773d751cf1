import type { Redis } from "ioredis";
import type { Keys } from "../protocol/keys.ts";
import { onRedis } from "./redis-error.ts";

export interface RequestIndexPage {
  readonly ids: readonly string[];
  /** For the next page; null at the end. */
  readonly cursor: string | null;
}

/** Which requests a client has, newest first, and which are recorded but perhaps not queued yet: `Requests.create` enters them. */
export interface RequestIndex {
  /**
   * After the job was added: the request needs no repair any more. Written a moment later, with others'; a request that stays marked
   * because that failed is looked at once more and found queued.
   */
  queued(id: string): void;
  /** Requests that were recorded before `before` (unix ms) and are not known to be queued. */
  unqueued(before: number, limit: number): Promise<readonly string[]>;
  /** As if it had been recorded at `at` (unix ms): until then it is not among the unqueued that are old enough. */
  lookLater(id: string, at: number): Promise<void>;
  /** Whether the request is in the client's list. */
  has(client: string, id: string): Promise<boolean>;
  /** @param cursor of an earlier page; anything else starts at the newest */
  page(client: string, options: { readonly cursor: string | null; readonly limit: number }): Promise<RequestIndexPage>;
}

const FLUSH_MS = 20;

export function openRequestIndex(options: { readonly redis: Redis; readonly keys: Keys }): RequestIndex {
  const { redis, keys } = options;
  let queued: string[] = [];
  const flush = (): void => {
    const ids = queued;
    queued = [];
    redis.zrem(keys.unqueued, ...ids).catch(() => undefined);
  };
  return {
    queued: (id) => {
      if (queued.push(id) === 1) setTimeout(flush, FLUSH_MS).unref();
    },
    unqueued: (before, limit) =>
      onRedis("looking for requests without a job", () => redis.zrangebyscore(keys.unqueued, 0, before, "LIMIT", 0, limit)),
    lookLater: async (id, at) => {
      await onRedis(`putting off the repair of request ${id}`, () => redis.zadd(keys.unqueued, "XX", at, id));
    },
    has: async (client, id) => (await onRedis(`looking for request ${id}`, () => redis.zscore(keys.index(client), id))) !== null,
    page: async (client, { cursor, limit }) => {
      const [at, last] = parseCursor(cursor);
      // One more than asked says whether there is a next page; those of the cursor's very millisecond are skipped up to its id.
      const found = await onRedis("listing requests", () =>
        redis.zrevrangebyscore(keys.index(client), at ?? "+inf", "-inf", "WITHSCORES", "LIMIT", 0, limit + 65),
      );
      const entries = pairs(found);
      const from = last === null ? 0 : entries.findIndex(({ id }) => id === last) + 1;
      const page = entries.slice(from, from + limit);
      const end = page.at(-1);
      return { ids: page.map(({ id }) => id), cursor: end === undefined || entries.length <= from + limit ? null : `${end.at}.${end.id}` };
    },
  };
}

function parseCursor(cursor: string | null): readonly [number | null, string | null] {
  const [, at, id] = /^(\d{1,16})\.([0-9a-f-]{36})$/.exec(cursor ?? "") ?? [];
  return at === undefined || id === undefined ? [null, null] : [Number(at), id];
}

function pairs(list: readonly string[]): readonly { readonly id: string; readonly at: number }[] {
  const found: { id: string; at: number }[] = [];
  for (let index = 0; index + 1 < list.length; index += 2) found.push({ id: list[index] ?? "", at: Number(list[index + 1]) });
  return found;
}
