import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, afterEach, before, mock, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { openCourierRig, PUBLIC_URL, ROOM, SECRET, type CourierRig } from "../../test/support/courier-rig.ts";
import { startReceiver, type Received, type Receiver } from "../../test/support/https-receiver.ts";
import { jobResult, startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import { deliveryIdOf } from "../protocol/webhook.ts";
import type { Delivery } from "../state/open-deliveries.ts";

const MINUTE = 60_000;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let redis: RedisRig;
let receiver: Receiver;
let rig: CourierRig;
before(async () => {
  redis = await startRedisRig();
  receiver = await startReceiver();
  rig = await openCourierRig(redis, { ca: [receiver.ca] });
});
after(async () => {
  await rig[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});
afterEach(() => {
  mock.timers.reset();
  receiver.answer = (_request, response) => void response.end("ok");
});

let paths = 0;
/** A path that no other test uses, and what arrives there. */
function hook(): { readonly url: string; readonly received: () => readonly Received[] } {
  paths += 1;
  const path = `/hook-${paths}`;
  return { url: receiver.url + path, received: () => receiver.received.filter((request) => request.path === path) };
}

function answerWith(status: number, body: string = ""): void {
  receiver.answer = (_request, response) => void response.writeHead(status).end(body);
}

interface Body {
  readonly event: string;
  readonly delivery_id: string;
  readonly timestamp: string;
  readonly data: Readonly<Record<string, unknown>>;
}

const bodyOf = (request: Received | undefined): Body => JSON.parse(request?.body ?? "null") as Body;
const eventsOf = (received: readonly Received[]): readonly string[] => received.map((request) => bodyOf(request).event).toSorted();

/** As the contract's prose says it, with nothing of ours. */
function verifyByHand(request: Received | undefined, secret: string): void {
  const header = (name: string): string => String(request?.headers[name]);
  const timestamp = header("x-dryapi-timestamp");
  const wanted = createHmac("sha256", secret).update(`${timestamp}.${request?.body}`).digest("hex");
  assert.equal(header("x-dryapi-signature"), `sha256=${wanted}`);
  assert.ok(Math.abs(Number(timestamp) - Date.now() / 1_000) < 300, `timestamp ${timestamp}`);
}

/** Lets time go by: for this process, and for Redis, by whose clock deliveries fall due. */
async function pass(ms: number): Promise<void> {
  mock.timers.setTime(Date.now() + ms);
  const delayed = `{${rig.config.namespace}}:webhooks:delayed`;
  const client = await redis.connect();
  for (const id of await client.zrangebyscore(delayed, "-inf", "+inf")) await client.zincrby(delayed, -ms * 4_096, id);
}

async function deliveryOf(id: string, event: "processing" | "end"): Promise<Delivery> {
  const found = await rig.context.deliveries.get(deliveryIdOf(id, event));
  assert.ok(found !== null, `no delivery of the ${event} of ${id}`);
  return found;
}

test("a completed request is told twice: its start and its end, with exactly the contract's headers and bodies", async () => {
  const { url, received } = hook();
  const id = await rig.submit({ url });
  const file = {
    name: "image.png",
    role: "main",
    contentType: "image/png",
    sizeBytes: 1,
    sha256: "0".repeat(64),
    key: "outputs/x",
  } as const;
  await rig.run(id, { files: [file] });
  await rig.courier.runDue();
  assert.equal(received().length, 2);
  const [start, end] = ["job.processing", "job.completed"].map((event) => received().find((request) => bodyOf(request).event === event));
  for (const request of [start, end]) {
    const { event, delivery_id: delivery } = bodyOf(request);
    verifyByHand(request, SECRET);
    new Webhook(SECRET, { format: "raw" }).verify(request?.body ?? "", request?.headers as Record<string, string>);
    const named = Object.fromEntries(
      (request?.rawHeaders ?? []).flatMap((name, index, all) => (index % 2 === 0 ? [[name, all[index + 1] ?? ""]] : [])),
    );
    assert.deepEqual(
      Object.keys(named)
        .map((name) => name.toLowerCase())
        .toSorted(),
      [
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
        "x-dryapi-delivery-id",
        "x-dryapi-event",
        "x-dryapi-signature",
        "x-dryapi-timestamp",
      ],
    );
    assert.deepEqual(
      [named["X-DryAPI-Event"], named["X-DryAPI-Delivery-Id"], named["webhook-id"], named["Content-Type"], named["User-Agent"]],
      [event, delivery, delivery, "application/json", "DryAPI-Webhook/1.0"],
    );
    assert.equal(named["webhook-timestamp"], named["X-DryAPI-Timestamp"]);
    assert.match(delivery, UUID);
    assert.deepEqual(Object.keys(bodyOf(request)), ["event", "delivery_id", "timestamp", "data"]);
  }
  assert.notEqual(bodyOf(start).delivery_id, bodyOf(end).delivery_id);
  const record = await rig.requests.get(id);
  const startedAt = record?.startedAt ?? 0;
  assert.deepEqual(bodyOf(start).data, {
    job_request_id: id,
    status: "processing",
    previous_status: "pending",
    job_type: "txt2img",
    started_at: new Date(startedAt).toISOString(),
  });
  const job = await rig.queues.job("m", id);
  const { result_url: link, ...rest } = bodyOf(end).data;
  assert.deepEqual(rest, {
    job_request_id: id,
    status: "done",
    previous_status: "processing",
    job_type: "txt2img",
    completed_at: new Date(job?.finishedAt ?? 0).toISOString(),
    processing_time_ms: (job?.finishedAt ?? 0) - startedAt,
  });
  assert.equal(bodyOf(end).timestamp, new Date(job?.finishedAt ?? 0).toISOString());
  assert.ok(String(link).startsWith(`${PUBLIC_URL}/r/${id}/image.png?exp=`), String(link));
});

test("a failed request is told with the codes of the closed table; details stay inside", async () => {
  const { url, received } = hook();
  const id = await rig.submit({ url });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "DOES_NOT_FIT", message: "needs 40 GiB on gpu-7", detail: "It needs 40 GiB.", field: "width" });
  await rig.courier.runDue();
  const [request] = received();
  const job = await rig.queues.job("m", id);
  assert.deepEqual([received().length, bodyOf(request).event], [1, "job.failed"]);
  assert.deepEqual(bodyOf(request).data, {
    job_request_id: id,
    job_type: "txt2img",
    status: "error",
    previous_status: "pending",
    failed_at: new Date(job?.finishedAt ?? 0).toISOString(),
    error_code: "WORKER_ERROR",
    error_message: "The job does not fit the device's memory. It needs 40 GiB.",
    error_reason: "DOES_NOT_FIT",
    error_field: "width",
    retryable: false,
  });
});

test("a request that is cancelled while it waits is told as failed with CANCELLED", async () => {
  const { url, received } = hook();
  const id = await rig.submit({ url });
  await rig.requests.markCancelled(id);
  assert.equal(await rig.queues.removeQueued("m", id), "removed");
  await rig.courier.runDue();
  assert.deepEqual(eventsOf(received()), ["job.failed"]);
  const { error_code: code, previous_status: previous, retryable } = bodyOf(received()[0]).data;
  assert.deepEqual([code, previous, retryable], ["CANCELLED", "pending", false]);
});

test("a start that no worker could announce is told with the end", async () => {
  const { url, received } = hook();
  const id = await rig.submit({ url });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.requests.markStarted(id, 1_700_000_000_000);
  await rig.queues.complete(claim, jobResult(1));
  await rig.courier.runDue();
  assert.deepEqual(eventsOf(received()), ["job.completed", "job.processing"]);
  const start = received().find((request) => bodyOf(request).event === "job.processing");
  assert.equal(bodyOf(start).data["started_at"], "2023-11-14T22:13:20.000Z");
});

test("without a secret the signature headers are there and empty", async () => {
  const { url, received } = hook();
  await rig.run(await rig.submit({ url, secret: null }));
  await rig.courier.runDue();
  const { headers } = received()[0] as Received;
  assert.deepEqual([headers["x-dryapi-signature"], headers["webhook-signature"]], ["", ""]);
});

test("the header prefix is the operator's", async () => {
  const { url, received } = hook();
  await using other = await openCourierRig(redis, { ca: [receiver.ca], env: { DRYAPI_WEBHOOK_HEADER_PREFIX: "X-DeAPI" } });
  await other.run(await other.submit({ url }));
  await other.courier.runDue();
  const { headers, body } = received()[0] as Received;
  const wanted = createHmac("sha256", SECRET)
    .update(`${String(headers["x-deapi-timestamp"])}.${body}`)
    .digest("hex");
  assert.equal(headers["x-deapi-signature"], `sha256=${wanted}`);
  assert.equal(headers["x-dryapi-signature"], undefined);
});

test("a request without a webhook, and an account whose webhook is off, tell nobody", async () => {
  const { url } = hook();
  await rig.run(await rig.submit({ url: null }));
  await rig.webhooks.change("off", { url, enabled: false, rotateSecret: false, at: 1 });
  await rig.run(await rig.submit({ url: null, client: "off" }));
  assert.deepEqual((await rig.context.queue.claim(ROOM)).claims, []);
});

test("ten attempts at the contract's times with the same bytes, each signed anew; then failed, kept and redeliverable", async () => {
  const start = Date.now();
  mock.timers.enable({ apis: ["Date"], now: start });
  const { url, received } = hook();
  answerWith(503, "down");
  const id = await rig.submit({ url, secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "INTERNAL", message: "x" });
  for (const [index, minutes] of [0, 1, 2, 5, 10, 30, 60, 180, 360, 720].entries()) {
    if (minutes > 0) {
      await pass(minutes * MINUTE - MINUTE / 2);
      await rig.courier.runDue();
      assert.equal(received().length, index, `attempt ${index + 1} came too early`);
      await pass(MINUTE / 2);
    }
    await rig.courier.runDue();
    assert.equal(received().length, index + 1, `attempt ${index + 1}`);
    const request = received()[index];
    verifyByHand(request, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    assert.equal(request?.headers["x-dryapi-timestamp"], String(Math.floor(Date.now() / 1_000)));
    new Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").verify(request?.body ?? "", request?.headers as Record<string, string>);
  }
  assert.equal(Date.now() - start, (22 * 60 + 48) * MINUTE);
  assert.equal(new Set(received().map(({ body }) => body)).size, 1);
  assert.equal(new Set(received().map(({ headers }) => headers["x-dryapi-signature"])).size, 10);
  await pass(48 * 60 * MINUTE);
  await rig.courier.runDue();
  assert.equal(received().length, 10);

  const failed = await deliveryOf(id, "end");
  assert.deepEqual([failed.state, failed.attemptCount, failed.attempts.length, failed.nextAttemptAt], ["failed", 10, 10, null]);
  assert.deepEqual(
    failed.attempts.map(({ number, status, answer }) => [number, status, answer]),
    Array.from({ length: 10 }, (_, index) => [index + 1, 503, "down"]),
  );
  answerWith(200, "thanks");
  const number = await rig.context.deliveries.reopen(failed.id);
  assert.equal(number, 1);
  await rig.queues.deliverAgain({ requestId: id, deliveryId: failed.id, number: 1 });
  await rig.courier.runDue();
  const again = received()[10];
  assert.deepEqual([again?.body, again?.headers["webhook-id"]], [received()[0]?.body, failed.id]);
  const { state, attemptCount } = await deliveryOf(id, "end");
  assert.deepEqual([state, attemptCount], ["delivered", 11]);
});

test("410 ends a delivery at once", async () => {
  const { url, received } = hook();
  answerWith(410);
  const id = await rig.submit({ url });
  await rig.run(id);
  await rig.courier.runDue();
  assert.equal(received().length, 2);
  assert.deepEqual([(await deliveryOf(id, "end")).state, (await deliveryOf(id, "processing")).state], ["failed", "failed"]);
});

test("redirects, refused addresses and dead servers are failed attempts with their reason in the log", async () => {
  const cases = [
    {
      url: `${receiver.url}/redirect`,
      status: 302,
      error: `the receiver answered 302, a redirect (to ${receiver.url}/elsewhere); webhooks follow none: set the URL that answers itself`,
    },
    { url: "https://10.0.0.1/", status: null, error: "the URL names an address that is not public" },
    { url: "https://127.0.0.1:1/", status: null, error: "the connection failed (ECONNREFUSED)" },
  ];
  receiver.answer = (_request, response) => void response.writeHead(302, { location: `${receiver.url}/elsewhere` }).end();
  for (const { url, status, error } of cases) {
    const id = await rig.submit({ url });
    await rig.run(id);
    await rig.courier.runDue();
    const { state, attempts } = await deliveryOf(id, "end");
    assert.deepEqual([state, attempts.length, attempts[0]?.status, attempts[0]?.error], ["pending", 1, status, error]);
  }
  assert.ok(receiver.received.every(({ path }) => path !== "/elsewhere"));
});

test("of an answer 4 KiB are kept", async () => {
  const { url } = hook();
  answerWith(200, "z".repeat(10_000));
  const id = await rig.submit({ url });
  await rig.run(id);
  await rig.courier.runDue();
  assert.equal((await deliveryOf(id, "end")).attempts[0]?.answer, "z".repeat(4_096));
});

test("a receiver that hangs gets 16 deliveries at a time, and the others are not held up", async () => {
  await using hanging = await startReceiver();
  await using other = await openCourierRig(redis, { ca: [hanging.ca, receiver.ca] });
  const { url, received } = hook();
  hanging.answer = () => undefined;
  for (let index = 0; index < 20; index += 1) await other.submit({ url: `${hanging.url}/slow` });
  await other.submit({ url });
  for (let index = 0; index < 21; index += 1) {
    const claim = await other.queues.claim("m");
    assert.ok(claim !== null);
    await other.queues.fail(claim, { code: "INTERNAL", message: "x" });
  }
  const stop = new AbortController();
  const running = other.courier.run(stop.signal);
  try {
    await until("the delivery to the other receiver", () => received().length === 1);
    await until("16 requests to the one that hangs", () => hanging.received.length === 16);
    await until("the rest to be put off", () => other.courier.inFlight === 16);
    assert.equal(hanging.received.length, 16);
  } finally {
    stop.abort();
    await running;
    await other.courier.drain(0);
  }
  assert.equal(other.courier.inFlight, 0);
});

test("a courier that ends hands deliveries back: the next one makes the same attempt", async () => {
  const { url, received } = hook();
  receiver.answer = () => undefined;
  const id = await rig.submit({ url });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "INTERNAL", message: "x" });
  const stop = new AbortController();
  const running = rig.courier.run(stop.signal);
  try {
    await until("the first request", () => received().length === 1);
  } finally {
    stop.abort();
    await running;
    await rig.courier.drain(0);
  }
  receiver.answer = (_request, response) => void response.end("ok");
  await rig.courier.runDue();
  assert.equal(received().length, 2);
  assert.equal(received()[1]?.body, received()[0]?.body);
  const { state, attempts } = await deliveryOf(id, "end");
  assert.deepEqual([state, attempts.length], ["delivered", 1]);
});

test("a delivery whose job had failed before it was added again, or is gone, is freed by the look for orphans", async () => {
  const { url, received } = hook();
  const id = await rig.submit({ url });
  const client = await redis.connect();
  const keyOf = (job: string): string => `{${rig.config.namespace}}:${job}`;
  // What a loss of data leaves: the job is failed, its parent is gone, and both are added again.
  await client.del(keyOf(`webhooks:${id}.end`), keyOf(`webhooks:${id}.end:dependencies`));
  await client.zrem(keyOf("webhooks:waiting-children"), `${id}.end`);
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "INTERNAL", message: "x" });
  await rig.queues.add(claim.data as never, { priority: 10, webhook: true });
  const gone = await rig.submit({ url });
  await rig.requests.markCancelled(gone);
  await client.del(keyOf(`m:${gone}`));
  await client.zrem(keyOf("m:prioritized"), gone);
  const waits = await rig.submit({ url });
  assert.equal(await rig.context.queue.freeOrphans(), 2);
  assert.equal(await rig.context.queue.freeOrphans(), 0);
  await rig.courier.runDue();
  assert.deepEqual(
    received()
      .map((request) => bodyOf(request).data["job_request_id"])
      .toSorted(),
    [id, gone].toSorted(),
  );
  await rig.run(waits);
  await rig.courier.runDue();
  assert.equal(received().length, 4);
});
