import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import fc from "fast-check";
import type { FastifyInstance } from "fastify";
import { readConfig } from "../../src/config/config.ts";
import { createApp } from "../../src/gateway/app.ts";
import type { GatewayContext } from "../../src/gateway/gateway-context.ts";
import { openGateway } from "../../src/gateway/open-gateway.ts";
import { openRequestUpdates } from "../../src/gateway/pusher/request-updates.ts";
import { REQUEST_VERSION, type RequestRecord } from "../../src/protocol/request.ts";
import { isUnreadable } from "../../src/protocol/stored.ts";
import { signResultLink } from "../../src/requests/result-link.ts";
import { createLogger } from "../../src/telemetry/logger.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { claimed, jobData, jobResult, startRedisRig, type RedisRig } from "../support/redis-rig.ts";

const MODEL = "fake";
/** Long ago enough for no clock to matter, and within the retention. */
const CREATED_AT = Date.now() - 60_000;

type States = "pending" | "processing" | "done" | "failed";

/** One place in Redis where a value stands that somebody reads. */
interface Place {
  readonly name: string;
  readonly key: string;
  /** Null: the key's whole value. */
  readonly field: string | null;
}

describe("a value that cannot be read", () => {
  let rig: RedisRig;
  let dir: string;
  let context: GatewayContext;
  let app: FastifyInstance;
  let key: string;
  let redis: GatewayContext["redis"];
  const log: string[] = [];
  const stack = new AsyncDisposableStack();
  const victims = new Map<States, string>();
  const others = new Map<States, string>();

  before(async () => {
    rig = stack.use(await startRedisRig());
    dir = await mkdtemp(join(tmpdir(), "dryapi-unreadable-"));
    stack.defer(() => rm(dir, { recursive: true, force: true }));
    const config = readConfig({
      REDIS_URL: rig.server.url,
      DRYAPI_STATE_DIR: join(dir, "state"),
      DRYAPI_STORE: pathToFileURL(join(dir, "objects")).href,
      DRYAPI_MODELS: MODEL,
    });
    const logger = createLogger({ level: "warn", destination: { write: (line: string) => void log.push(line) } });
    const metrics = stack.use(createMetrics({ programs: ["gateway"], version: "0", name: "w", onError: () => undefined }));
    context = await openGateway({ config, log: logger, metrics, publicUrl: () => "http://gateway", stack });
    redis = context.redis;
    app = await createApp(context);
    stack.defer(() => app.close());
    key = (await context.clients.add({ id: "tester", name: "test", ratePerMinute: 0 })).key;
    await context.clients.add({ id: "ghost", name: "another" });
    for (const state of ["pending", "processing", "done", "failed"] as const) {
      victims.set(state, await request(state));
      others.set(state, await request(state));
    }
    const announcement = {
      host: "h",
      pid: 1,
      devices: [{ id: "cpu:0", kind: "cpu", memoryBytes: 1 }],
      draining: false,
      at: 1,
    };
    for (const worker of ["alive", "ghost"])
      await context.registry.announce({ ...announcement, worker, models: [worker === "alive" ? MODEL : "other"] }, 3_600_000);
    await context.webhooks.change("tester", { url: "https://example.org/", enabled: true, rotateSecret: false, at: CREATED_AT });
    await context.webhooks.change("ghost", { url: "https://example.org/", enabled: true, rotateSecret: false, at: CREATED_AT });
    await context.runTimes.learn("ghost", 1_000);
    await context.runTimes.learn(MODEL, 2_000);
  });
  after(() => stack.disposeAsync());

  /** A request in a state, with an event, a delivery and its job. */
  async function request(state: States): Promise<string> {
    const id = randomUUID();
    const { keys, requests, queues, emitter, deliveries } = context;
    const record: RequestRecord = {
      v: REQUEST_VERSION,
      id,
      queue: MODEL,
      client: "tester",
      task: "txt2img",
      model: MODEL,
      params: { prompt: "a", seed: 7 },
      inputs: [],
      priority: 1,
      timeoutMs: 60_000,
      webhookUrl: "https://example.org/",
      webhookSecretRef: null,
      createdAt: CREATED_AT,
      startedAt: null,
      cancelledAt: null,
    };
    await requests.create(record);
    await queues.add({ ...jobData(id, MODEL), client: "tester" }, { priority: state === "pending" ? 1_000 : 1 });
    await deliveries.create({
      id: `delivery-${id}`,
      requestId: id,
      client: "tester",
      event: "job.completed",
      url: "https://example.org/",
      secretRef: null,
      body: "{}",
      createdAt: CREATED_AT,
    });
    await deliveries.record(
      { id: `delivery-${id}`, requestId: id },
      {
        attempt: { at: CREATED_AT, durationMs: 1, status: 200, error: null, answer: "ok", signedWith: null },
        state: "delivered",
        nextAttemptAt: null,
      },
    );
    if (state === "pending") return id;
    const claim = await claimed(queues, MODEL);
    assert.equal(claim.id, id);
    await requests.markStarted(id, CREATED_AT + 1);
    await redis.set(keys.lock(MODEL, id), claim.token);
    await emitter.emit({ ...claim, client: "tester" }, { id, claim: 1, type: "preview", progress: 40, preview: "AAAA" });
    const file = {
      name: "a.png",
      role: "main",
      contentType: "image/png",
      sizeBytes: 1,
      sha256: "0".repeat(64),
      key: `outputs/${id}/1/a.png`,
    } as const;
    if (state === "done") await queues.complete(claim, { ...jobResult(1), files: [file] });
    if (state === "failed") await queues.fail(claim, { code: "OUT_OF_MEMORY", message: "too large" });
    return id;
  }

  async function get(path: string): Promise<{ readonly status: number; readonly body: Record<string, unknown> }> {
    const answer = await app.inject({ method: "GET", url: path, headers: { Authorization: `Bearer ${key}` } });
    return { status: answer.statusCode, body: answer.json() };
  }

  async function post(path: string): Promise<{ readonly status: number; readonly body: unknown }> {
    const answer = await app.inject({ method: "POST", url: path, headers: { Authorization: `Bearer ${key}` } });
    return { status: answer.statusCode, body: answer.json() };
  }

  /** One entry a page: all requests come, the unreadable one among them. */
  async function pagesGoOn(): Promise<void> {
    const seen: string[] = [];
    let cursor: string | null = "";
    while (cursor !== null) {
      const { status, body } = await get(`/api/v1/client/requests?limit=1&cursor=${cursor}`);
      assert.equal(status, 200);
      const page = body as unknown as {
        readonly data: readonly { readonly request_id: string }[];
        readonly meta: { readonly next_cursor: string | null };
      };
      seen.push(...page.data.map(({ request_id: id }) => id));
      cursor = page.meta.next_cursor;
    }
    assert.deepEqual(seen.toSorted(), [...idsOf(victims), ...idsOf(others)].toSorted());
  }

  const idsOf = (found: ReadonlyMap<States, string>): readonly string[] => [...found.values()];

  /** All that is answered and told about everything but the victims and the ghosts. */
  async function answers(): Promise<unknown> {
    const ofOthers = await Promise.all(
      idsOf(others).flatMap((id) => [get(`/api/v1/client/request-status/${id}`), get(`/api/v1/client/requests/${id}/deliveries`)]),
    );
    const list = await get("/api/v1/client/requests?limit=50");
    assert.equal(list.status, 200, JSON.stringify(list.body));
    const spoilt = new Set(idsOf(victims));
    const listed = (list.body["data"] as readonly { readonly request_id: string }[]).filter((entry) => !spoilt.has(entry.request_id));
    const present = await openRequestUpdates(context).present("tester", CREATED_AT - 1);
    return {
      ofOthers,
      listed,
      present: present.filter(({ payload }) => !spoilt.has(payload.request_id)),
      settings: await get("/api/v1/client/settings/webhook"),
      models: await get("/api/v1/client/models"),
      clients: (await context.clients.list()).filter(({ id }) => id !== "ghost"),
      workers: (await context.registry.list()).filter(({ worker }) => worker !== "ghost"),
      runTime: await context.runTimes.of(MODEL),
    };
  }

  function places(): readonly Place[] {
    const { keys } = context;
    const found: Place[] = [];
    for (const [state, id] of victims) {
      const job = `${keys.prefix}:${MODEL}:${id}`;
      const record = [
        "v",
        "task",
        "client",
        "params",
        "inputs",
        "created_at",
        "started_at",
        "cancelled_at",
        "priority",
        "timeout_ms",
        "queue",
      ];
      const delivery = ["event", "state", "created_at", "next_attempt_at", "attempts", "attempt:1", "request_id"];
      found.push(
        { name: `${state} record`, key: keys.request(id), field: null },
        { name: `${state} live`, key: keys.live(id), field: null },
        { name: `${state} delivery`, key: keys.delivery(`delivery-${id}`), field: null },
        { name: `${state} deliveries`, key: keys.deliveries(id), field: null },
        { name: `${state} live event`, key: keys.live(id), field: "event" },
        ...record.map((field) => ({ name: `${state} record ${field}`, key: keys.request(id), field })),
        ...delivery.map((field) => ({ name: `${state} delivery ${field}`, key: keys.delivery(`delivery-${id}`), field })),
        ...["data", "returnvalue", "failedReason"].map((field) => ({ name: `${state} job ${field}`, key: job, field })),
      );
    }
    return [
      ...found,
      { name: "client", key: keys.client("ghost"), field: null },
      ...["rate_per_minute", "priority", "created_at", "secret_hash"].map((field) => ({
        name: `client ${field}`,
        key: keys.client("ghost"),
        field,
      })),
      { name: "webhook", key: keys.hook("ghost"), field: null },
      { name: "worker", key: keys.workers, field: "ghost" },
      { name: "run time", key: keys.runTimes, field: "ghost" },
    ];
  }

  /** What a newer program, a crash of one or a hand at redis-cli may leave. */
  const damage: fc.Arbitrary<(old: Buffer) => Buffer> = fc.oneof(
    fc.nat().map((at) => (old: Buffer) => old.subarray(0, old.length === 0 ? 0 : at % old.length)),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => () => Buffer.from(bytes)),
    fc.json().map((text) => () => Buffer.from(text)),
    fc.constantFrom("", "null", "[]", "{}", "-1", "NaN", "1e999", "2", '{"v":2}', "true", '"text"').map((text) => () => Buffer.from(text)),
    fc.constant((old: Buffer) => Buffer.from(old.toString("latin1").replace('"v":1', '"v":2'), "latin1")),
  );

  async function spoil({ key: at, field }: Place, change: (old: Buffer) => Buffer): Promise<void> {
    const value = change(field === null ? Buffer.alloc(0) : ((await redis.hgetBuffer(at, field)) ?? Buffer.alloc(0)));
    if (field !== null) await redis.hset(at, field, value);
    else await redis.set(at, value);
  }

  /** Puts one value in each place in turn, and restores what was there. */
  async function withDamage(place: Place, change: (old: Buffer) => Buffer, look: () => Promise<void>): Promise<void> {
    const before = await redis.dumpBuffer(place.key);
    const ttl = await redis.pttl(place.key);
    try {
      await spoil(place, change);
      await look();
    } finally {
      await redis.del(place.key);
      if (before !== null) await redis.restore(place.key, Math.max(0, ttl), before);
    }
  }

  test("changes no answer about anything else, wherever it stands and whatever it is", async () => {
    const whole = await answers();
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...places()), damage, (place, change) =>
        withDamage(place, change, async () => {
          assert.deepEqual(await answers(), whole, place.name);
          for (const id of idsOf(victims)) {
            const { status, body } = await get(`/api/v1/client/request-status/${id}`);
            // 404: by what is left of it, it is nobody's.
            assert.ok(status === 200 || status === 404, `${place.name}: ${status} ${JSON.stringify(body)}`);
            const deliveries = await get(`/api/v1/client/requests/${id}/deliveries`);
            assert.ok([200, 404, 409].includes(deliveries.status), `${place.name}: deliveries ${deliveries.status}`);
          }
        }),
      ),
      { numRuns: 150 },
    );
  });

  test("a record of a newer version is listed as an error, its own answer and that to a cancel name the version, pages and deliveries go on, and streams leave it out with a line in the log", async () => {
    const id = victims.get("processing") ?? "";
    const place = { name: "version", key: context.keys.request(id), field: "v" };
    await withDamage(
      place,
      () => Buffer.from("9"),
      async () => {
        const { status, body } = await get(`/api/v1/client/request-status/${id}`);
        assert.equal(status, 200);
        const why = `request record ${id} has version 9, this program reads up to ${REQUEST_VERSION}: upgrade this program`;
        const marked = { request_id: id, status: "error", task: null, error_reason: "RECORD_UNREADABLE", retryable: false };
        assert.partialDeepStrictEqual(body["data"], marked);
        assert.ok(String((body["data"] as Record<string, unknown>)["error_message"]).endsWith(`(${why})`));
        const readable = (await get(`/api/v1/client/request-status/${others.get("processing") ?? ""}`)).body["data"] as object;
        assert.deepEqual(Object.keys(body["data"] as object).toSorted(), Object.keys(readable).toSorted(), "no field is missing");
        const cancel = await post(`/api/v1/client/requests/${id}/cancel`);
        assert.deepEqual(cancel, { status: 409, body: { message: `The request cannot be cancelled by this version (${why}).` } });
        const link = signResultLink("", await context.secrets.get("result-links"), { id, file: "image.png", expiresAt: 4_102_444_800 });
        const followed = await get(link);
        assert.deepEqual(followed, { status: 409, body: { message: `The request cannot be read by this version (${why}).` } });
        const deliveries = await get(`/api/v1/client/requests/${id}/deliveries`);
        assert.partialDeepStrictEqual(deliveries, {
          status: 200,
          body: { data: [{ delivery_id: `delivery-${id}`, status: "delivered" }] },
        });
        const list = await get("/api/v1/client/requests?status=error&limit=50");
        const entry = (list.body["data"] as readonly Record<string, unknown>[]).find((each) => each["request_id"] === id);
        assert.partialDeepStrictEqual(entry, marked);
        await pagesGoOn();
        log.length = 0;
        const present = await openRequestUpdates(context).present("tester", CREATED_AT - 1);
        assert.ok(present.every(({ payload }) => payload.request_id !== id));
        assert.equal(log.filter((line) => line.includes(id)).length, 1);
        // Nobody else learns of it.
        const { key: foreign } = await context.clients.add({ name: "foreign", ratePerMinute: 0 });
        const refused = await app.inject({
          method: "GET",
          url: `/api/v1/client/request-status/${id}`,
          headers: { Authorization: `Bearer ${foreign}` },
        });
        assert.equal(refused.statusCode, 404);
      },
    );
  });

  test("a result of a newer version is an error that says so, for its own request alone", async () => {
    const id = victims.get("done") ?? "";
    const place = { name: "result", key: `${context.keys.prefix}:${MODEL}:${id}`, field: "returnvalue" };
    await withDamage(
      place,
      () => Buffer.from(JSON.stringify({ ...jobResult(1), v: 9 })),
      async () => {
        const { status, body } = await get(`/api/v1/client/request-status/${id}`);
        assert.equal(status, 200);
        assert.partialDeepStrictEqual(body["data"], { status: "error", error_reason: "RECORD_UNREADABLE" });
      },
    );
  });

  test("a client that cannot be read is listed as such, and its key is no key", async () => {
    const place = { name: "client", key: context.keys.client("ghost"), field: null };
    await withDamage(
      place,
      () => Buffer.from("x"),
      async () => {
        const ghost = (await context.clients.list()).find(({ id }) => id === "ghost");
        assert.ok(isUnreadable(ghost));
        assert.match(ghost.unreadable, /client ghost/);
      },
    );
  });

  test("a job whose data are no JSON can be claimed, to be ended; the jobs behind it too", async () => {
    const id = victims.get("pending") ?? "";
    const place = { name: "data", key: `${context.keys.prefix}:${MODEL}:${id}`, field: "data" };
    await withDamage(
      place,
      () => Buffer.from('{"v":1,'),
      async () => {
        const first = await claimed(context.queues, MODEL);
        assert.deepEqual([first.id, first.data], [id, null]);
        const second = await claimed(context.queues, MODEL);
        assert.equal(second.id, others.get("pending"));
        await context.queues.fail(first, { code: "INVALID_INPUT", message: "job data is invalid" });
      },
    );
  });
});
