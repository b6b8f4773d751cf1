import { backoffDelayMs, sleep, type BackoffPolicy } from "../../lib/backoff.ts";
import { Semaphore } from "../../lib/semaphore.ts";
import { endedWithin } from "../../lib/within.ts";
import { openEventPool, type EventPool } from "../../net/open-event-pool.ts";
import { channelOf } from "../../protocol/pusher.ts";
import { eventCall, type RealtimeTarget } from "../../protocol/pusher-api.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { isEnd, UPDATE_EVENT, type UpdatePayload } from "./update-payload.ts";

export interface Outgoing {
  readonly client: string;
  readonly payload: UpdatePayload;
  readonly seq: number;
}

const CALL_TIMEOUT_MS = 5_000;
const CALLS_AT_ONCE = 16;
/** Ends are tried for so long; anything else is superseded by what is newer. */
const END_PATIENCE_MS = 600_000;
const END_RETRY: BackoffPolicy = { firstMs: 500, maxMs: 30_000, factor: 2, jitter: 0.3 };
/** After a failure nothing but ends is tried for so long. */
const AWAY_MS = 1_000;
/** An end that was told is not told again by the next gateway that forwards. */
const TOLD_TTL_S = 300;
const MOST_REMEMBERED = 20_000;

type Answer = "taken" | "too-large" | "refused" | "away";

/**
 * Calls another Pusher server. Per request one call at a time, in order: while it is under way only the newest update waits, and an end
 * always. A server that refuses a preview for its size gets the update without it.
 */
export class Outbox implements AsyncDisposable {
  readonly #context: Pick<GatewayContext, "redis" | "keys" | "log" | "metrics">;
  readonly #target: RealtimeTarget;
  readonly #waiting = new Map<string, Outgoing>();
  readonly #busy = new Map<string, Promise<void>>();
  /** Newest sequence number that was taken per request; Infinity after its end. */
  readonly #taken = new Map<string, number>();
  readonly #calls = new Semaphore(CALLS_AT_ONCE);
  readonly #pool: EventPool;
  #awayUntil = 0;

  constructor(context: Pick<GatewayContext, "redis" | "keys" | "log" | "metrics">, target: RealtimeTarget) {
    this.#context = context;
    this.#target = target;
    this.#pool = openEventPool(target.base, { connections: CALLS_AT_ONCE });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }

  put(outgoing: Outgoing): void {
    const { request_id: id } = outgoing.payload;
    if (outgoing.seq <= (this.#taken.get(id) ?? 0) && !isEnd(outgoing.payload)) return;
    if (this.#taken.get(id) === Infinity) return;
    this.#taken.delete(id);
    this.#taken.set(id, isEnd(outgoing.payload) ? Infinity : outgoing.seq);
    if (this.#taken.size > MOST_REMEMBERED) this.#taken.delete(this.#taken.keys().next().value ?? "");
    if (this.#waiting.has(id)) this.#context.metrics.socketFrames.inc({ result: "dropped" });
    this.#waiting.set(id, outgoing);
    if (this.#busy.has(id)) return;
    const draining = this.#drain(id).finally(() => this.#busy.delete(id));
    this.#busy.set(id, draining);
  }

  /** Resolves when all was told, at the latest after so many milliseconds. */
  async flushed(withinMs: number): Promise<void> {
    await endedWithin(withinMs, Promise.allSettled(this.#busy.values()));
  }

  async #drain(id: string): Promise<void> {
    for (let next = this.#waiting.get(id); next !== undefined; next = this.#waiting.get(id)) {
      this.#waiting.delete(id);
      if (isEnd(next.payload)) await this.#tellEnd(next);
      else if (performance.now() >= this.#awayUntil) await this.#call(next);
    }
  }

  async #tellEnd(end: Outgoing): Promise<void> {
    const { redis, keys } = this.#context;
    const mark = keys.forwarded(end.payload.request_id);
    // When Redis is away it is told twice rather than not at all.
    if ((await redis.exists(mark).catch(() => 0)) === 1) return;
    const giveUpAt = performance.now() + END_PATIENCE_MS;
    for (let tries = 1; ; tries += 1) {
      const answer = await this.#call(end);
      if (answer === "taken") await redis.set(mark, "1", "EX", TOLD_TTL_S).catch(() => undefined);
      if (answer !== "away" || performance.now() > giveUpAt) return;
      await sleep(backoffDelayMs(END_RETRY, tries));
    }
  }

  async #call(outgoing: Outgoing): Promise<Answer> {
    const { log, metrics } = this.#context;
    const { payload } = outgoing;
    using _permit = await this.#calls.acquire();
    const first = await this.#post(outgoing);
    const isRetold = first.answer === "too-large" && payload.preview !== null;
    const { answer, detail } = isRetold ? await this.#post({ ...outgoing, payload: { ...payload, preview: null } }) : first;
    metrics.socketFrames.inc({ result: answer === "taken" ? "sent" : "dropped" });
    if (answer === "away") this.#awayUntil = performance.now() + AWAY_MS;
    if (answer !== "taken")
      log.warn({ request: payload.request_id, status: payload.status, answer, detail }, "an event did not reach the realtime server");
    return answer;
  }

  async #post({ client, payload }: Outgoing): Promise<{ readonly answer: Answer; readonly detail: string }> {
    const event = { name: UPDATE_EVENT, channel: channelOf(client), data: JSON.stringify(payload) };
    const { url, body } = eventCall(this.#target, event, Math.floor(Date.now() / 1_000));
    try {
      const status = await this.#pool.post(url, body, AbortSignal.timeout(CALL_TIMEOUT_MS));
      return { answer: answerOf(status), detail: `it answered ${status}` };
    } catch (thrown) {
      // None of these errors holds the query, which is signed.
      return { answer: "away", detail: String(thrown) };
    }
  }
}

function answerOf(status: number): Answer {
  if (status >= 200 && status < 300) return "taken";
  if (status === 413) return "too-large";
  return status >= 400 && status < 500 && status !== 408 && status !== 429 ? "refused" : "away";
}
