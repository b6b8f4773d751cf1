import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { randomUUID } from "node:crypto";
import { readConfig, type Config } from "../../src/config/config.ts";
import { Courier } from "../../src/courier/courier.ts";
import type { CourierContext } from "../../src/courier/courier-context.ts";
import { openCourier, type CourierParts } from "../../src/courier/open-courier.ts";
import { JOB_VERSION, type JobData } from "../../src/protocol/job.ts";
import { REQUEST_VERSION, type RequestRecord } from "../../src/protocol/request.ts";
import type { JobResult } from "../../src/protocol/result.ts";
import type { ClaimRoom } from "../../src/queue/claim-fairly.ts";
import type { Queues } from "../../src/queue/queue-types.ts";
import type { Requests } from "../../src/state/state-types.ts";
import { openRequests } from "../../src/state/open-requests.ts";
import type { Webhooks } from "../../src/state/open-webhooks.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { claimed, jobResult, type RedisRig } from "./redis-rig.ts";

export const PUBLIC_URL = "https://api.example.org";
export const SECRET = "a-secret-of-more-than-32-characters-!";

/** Longer than the schedule of the attempts. */
const LONG_MS = 48 * 3_600_000;
/** BullMQ's scores of delayed jobs. */
const SCORE_PER_MS = 4_096;

/** For claims by hand: more than any test needs. */
export const ROOM: ClaimRoom = { most: 100, places: 1_000, placesAtOrigin: 1_000, held: [] };

export interface Wish {
  readonly url: string | null;
  readonly secret?: string | null;
  readonly client?: string;
}

/** A courier on a real Redis, driven by hand, with the gateway's and the worker's sides of its queue. */
export class CourierRig implements AsyncDisposable {
  readonly context: CourierContext;
  readonly courier: Courier;
  readonly config: Config;
  readonly queues: Queues;
  readonly requests: Requests;
  readonly webhooks: Webhooks;
  readonly redis: CourierParts["redis"];
  readonly keys: CourierParts["keys"];
  readonly #stack: AsyncDisposableStack;

  constructor(
    parts: Pick<CourierParts, "context" | "redis" | "keys"> & { readonly requests: Requests; readonly stack: AsyncDisposableStack },
  ) {
    this.redis = parts.redis;
    this.keys = parts.keys;
    this.context = parts.context;
    this.config = parts.context.config;
    this.courier = new Courier(parts.context);
    this.queues = parts.context.queues as Queues;
    this.requests = parts.requests;
    this.webhooks = parts.context.webhooks;
    this.#stack = parts.stack;
  }

  /** Record and job, as a gateway writes them. */
  async submit({ url, secret = SECRET, client = "c1" }: Wish): Promise<string> {
    const id = randomUUID();
    const target = await this.webhooks.freezeTarget({ client, requestId: id, url, secret: url === null ? null : secret });
    const shared = { id, task: "txt2img", model: "m", client, params: {}, inputs: [], timeoutMs: 60_000 } as const;
    const createdAt = Date.now();
    const record: RequestRecord = {
      ...shared,
      v: REQUEST_VERSION,
      queue: "m",
      priority: 10,
      webhookUrl: target?.url ?? null,
      webhookSecretRef: target?.secretRef ?? null,
      createdAt,
      startedAt: null,
      cancelledAt: null,
    };
    await this.requests.create(record);
    const data: JobData = { ...shared, v: JOB_VERSION, submittedAt: createdAt };
    await this.queues.add(data, { priority: 10, webhook: target !== null });
    return id;
  }

  /** As a worker does it: claimed, announced, started, completed. */
  async run(id: string, result: Partial<JobResult> = {}): Promise<void> {
    const claim = await claimed(this.queues);
    const startedAt = Date.now();
    const data = claim.data as JobData;
    if (data.webhook === true) await this.queues.announceStart(data, startedAt);
    await this.requests.markStarted(id, startedAt);
    await this.queues.complete(claim, { ...jobResult(1), ...result });
  }

  /** Deliveries that wait for their next attempt are due now. */
  async makeDue(): Promise<void> {
    const { redis } = this;
    const delayed = `{${this.config.namespace}}:webhooks:delayed`;
    for (const id of await redis.zrangebyscore(delayed, "-inf", "+inf")) await redis.zincrby(delayed, -LONG_MS * SCORE_PER_MS, id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

export async function openCourierRig(
  redis: RedisRig,
  options: { readonly ca?: readonly string[]; readonly env?: Readonly<Record<string, string>>; readonly namespace?: string } = {},
): Promise<CourierRig> {
  const stack = new AsyncDisposableStack();
  const dir = await mkdtemp(join(tmpdir(), "dryapi-courier-test-"));
  stack.defer(() => rm(dir, { recursive: true, force: true }));
  const config = readConfig({
    REDIS_URL: redis.server.url,
    DRYAPI_NAMESPACE: options.namespace ?? redis.namespace().prefix.slice(1, -1),
    DRYAPI_STATE_DIR: dir,
    DRYAPI_STORE: pathToFileURL(join(dir, "objects")).href,
    DRYAPI_EGRESS_ALLOW: "127.0.0.0/8",
    ...options.env,
  });
  const metrics = stack.use(createMetrics({ programs: ["courier"], version: "test", name: "test" }));
  const log = createLogger({ level: "silent" });
  const signal = new AbortController().signal;
  const ca = options.ca;
  const parts = await openCourier(config, { log, metrics, signal, publicUrl: () => PUBLIC_URL, ...(ca !== undefined && { ca }) }, stack);
  if (parts === null) throw new Error("the courier was not opened");
  const { context, keys, redis: connection } = parts;
  const requests = openRequests({ redis: connection, keys, retentionMs: config.retentionMs });
  return new CourierRig({ context, redis: connection, keys, requests, stack });
}
