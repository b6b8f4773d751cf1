import type { Redis } from "ioredis";
import { sleep } from "../lib/backoff.ts";
import { RedisScript } from "../lib/redis-script.ts";
import { within } from "../lib/within.ts";
import type { Keys } from "../protocol/keys.ts";

/** Events after which a job may be claimable. `delayed` tells of a due time to come. */
const WAKING: ReadonlySet<string> = new Set(["waiting", "delayed", "resumed", "stalled", "drained", "priority"]);
const COUNT = 100;
const BLOCK_MS = 5_000;
const HUNG_AFTER_MS = 2_000;
const RECONNECT_MS = 250;
/** Reads without news after which the last ids are read anew: an id ahead of a stream that was reset would see nothing for ever. */
const READS_PER_CHECK = 4;
/** The id before all others. */
const NOTHING_YET = "0-0";

/** KEYS: event streams. Returns the last id of each. */
const ENDS = new RedisScript(`
local ends = {}
for place, key in ipairs(KEYS) do
  local newest = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)
  ends[place] = newest[1] and newest[1][1] or '${NOTHING_YET}'
end
return ends`);

export interface WatchOptions {
  /** A connection of its own: it is blocked nearly always. */
  readonly redis: Redis;
  readonly keys: Keys;
  readonly models: () => readonly string[];
  /** `isAdded`: a job was added, which can probably be claimed now. */
  readonly onWake: (model: string, isAdded: boolean) => void;
  readonly signal: AbortSignal;
  /** How long one read waits for news. */
  readonly blockMs?: number;
  /** How much longer than it should an answer may take before the connection is given up: a frozen server never answers. */
  readonly hungAfterMs?: number;
}

type StreamEntries = readonly (readonly [id: string, fields: readonly string[]])[];
type ReadAnswer = readonly (readonly [key: string, entries: StreamEntries])[] | null;

/**
 * Wakes the scheduler: one XREAD over the event streams of all queues, on one connection, which takes nothing away from anybody (BullMQ's
 * own marker is popped). Never the only source of wake-ups: trimming, a reset stream or an outage may swallow one, so the daemon also
 * looks by itself every two seconds. Runs until the signal aborts; outages are waited out.
 */
export async function watchQueues(options: WatchOptions): Promise<void> {
  const last = new Map<string, string>();
  const onAbort = (): void => options.redis.disconnect();
  options.signal.addEventListener("abort", onAbort, { once: true });
  let idle = 0;
  while (!options.signal.aborted) {
    try {
      const models = options.models();
      if (models.length === 0) {
        await sleep(RECONNECT_MS, options.signal);
        continue;
      }
      if (idle % READS_PER_CHECK === 0) await readLastIds(options, models, last);
      idle = (await readOnce(options, models, last)) ? 1 : idle + 1;
    } catch {
      if (options.signal.aborted) return;
      last.clear();
      idle = 0;
      await sleep(RECONNECT_MS, options.signal).catch(() => undefined);
      // Whatever happened during the outage is looked for.
      for (const model of options.models()) options.onWake(model, false);
    }
  }
}

/** Where each stream ends now. A stream that went back was reset: what it holds is news. */
async function readLastIds(options: WatchOptions, models: readonly string[], last: Map<string, string>): Promise<void> {
  const keys = models.map((model) => options.keys.queueEvents(model));
  const ends = (await withWatchdog(options, 0, ENDS.run(options.redis, keys, []))) as readonly string[];
  for (const [index, model] of models.entries()) {
    const end = ends[index] ?? NOTHING_YET;
    const known = last.get(model);
    if (known === undefined || isBefore(end, known)) {
      last.set(model, end);
      options.onWake(model, false);
    }
  }
}

async function readOnce(options: WatchOptions, models: readonly string[], last: Map<string, string>): Promise<boolean> {
  const blockMs = options.blockMs ?? BLOCK_MS;
  const unknown = models.filter((model) => !last.has(model));
  if (unknown.length > 0) await readLastIds(options, unknown, last);
  const keys = models.map((model) => options.keys.queueEvents(model));
  const ids = models.map((model) => last.get(model) ?? NOTHING_YET);
  const read = options.redis.xread("COUNT", COUNT, "BLOCK", blockMs, "STREAMS", ...keys, ...ids) as Promise<ReadAnswer>;
  const answer = await withWatchdog(options, blockMs, read);
  if (answer === null) return false;
  for (const [key, entries] of answer) {
    const model = models[keys.indexOf(key)];
    const end = entries.at(-1)?.[0];
    if (model === undefined || end === undefined) continue;
    last.set(model, end);
    const events = entries.map(([, fields]) => fields[fields.indexOf("event") + 1] ?? "");
    if (events.some((event) => WAKING.has(event))) options.onWake(model, events.includes("waiting"));
  }
  return true;
}

/** Drops the connection when no answer comes in time; ioredis makes a new one. */
async function withWatchdog<T>({ redis, hungAfterMs = HUNG_AFTER_MS }: WatchOptions, blockMs: number, reading: Promise<T>): Promise<T> {
  const ms = blockMs + hungAfterMs;
  const late = (): Error => {
    redis.disconnect(true);
    return new Error(`no answer for ${ms} ms`);
  };
  return within(reading, { ms, late });
}

function isBefore(a: string, b: string): boolean {
  const [aMs = 0, aSeq = 0] = a.split("-").map(Number);
  const [bMs = 0, bSeq = 0] = b.split("-").map(Number);
  return aMs < bMs || (aMs === bMs && aSeq < bSeq);
}
