import assert from "node:assert/strict";
import { test } from "node:test";
import { Webhook } from "standardwebhooks";
import { startCourier } from "../support/courier-process.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { startReceiver, type Received, type Receiver } from "../support/https-receiver.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const JOBS = 40;
const ENV = { DRYAPI_MODELS: "fake", DRYAPI_RATE_PER_MINUTE: "0", DRYAPI_COURIER: "0" };

async function submitAll(system: TestSystem, receiver: Receiver, gatewayUrl: string): Promise<readonly string[]> {
  const api = new ApiClient(gatewayUrl, await addClient(system, { ratePerMinute: 0 }));
  const job = { model: "fake", prompt: "x", width: 64, height: 64, steps: 1, webhook_url: `${receiver.url}/hook`, webhook_secret: SECRET };
  return Promise.all(Array.from({ length: JOBS }, () => api.submit("txt2img", job)));
}

interface Body {
  readonly event: string;
  readonly delivery_id: string;
  readonly data: { readonly job_request_id: string };
}

const bodyOf = ({ body }: Received): Body => JSON.parse(body) as Body;

/** Every request's two events have come, each under one id and with one content however often it came, and signed. */
function checkAll(ids: readonly string[], received: readonly Received[]): void {
  const byEvent = Map.groupBy(received, (request) => `${bodyOf(request).data.job_request_id} ${bodyOf(request).event}`);
  const expected = ids.flatMap((id) => [`${id} job.completed`, `${id} job.processing`]);
  assert.deepEqual([...byEvent.keys()].toSorted(), expected.toSorted());
  for (const [event, copies] of byEvent) {
    assert.equal(new Set(copies.map(({ body }) => body)).size, 1, `${event}: the same bytes each time`);
    assert.equal(new Set(copies.map(({ headers }) => headers["x-dryapi-delivery-id"])).size, 1, `${event}: the same id each time`);
    for (const { body, headers } of copies) new Webhook(SECRET).verify(body, headers as Record<string, string>);
  }
}

const hasAll = (received: readonly Received[]): true | undefined =>
  new Set(received.map(({ headers }) => headers["x-dryapi-delivery-id"])).size >= JOBS * 2 ? true : undefined;

test("a courier killed -9 in the middle of deliveries: another one makes them, under the same ids", async () => {
  await using system = await startSystem();
  await using receiver = await startReceiver();
  await using gateway = await startGateway(system, ENV);
  await system.startWorker();
  // The other one takes over when the first one's locks have expired.
  const env = { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_LOCK_MS: "3s" };
  const first = await startCourier(system, env);
  // Half of the requests are never answered: the courier dies while it waits for these.
  receiver.answer = (_request, response) => {
    if (receiver.received.length % 2 === 0) response.end("ok");
  };
  const ids = await submitAll(system, receiver, gateway.url);
  await system.until("deliveries under way", () => (receiver.received.length >= 10 ? true : undefined));
  await first.kill9();
  const cutOff = receiver.received.length;
  assert.ok(hasAll(receiver.received) === undefined, "some are left to deliver");
  receiver.answer = (_request, response) => void response.end("ok");
  await using second = await startCourier(system, env);
  for (const id of ids) assert.equal((await system.ended("fake", id)).state, "completed");
  await system.until(
    "every webhook",
    () => hasAll(receiver.received),
    () => receiver.received.length,
  );
  const unanswered = receiver.received.slice(0, cutOff).filter((_request, index) => (index + 1) % 2 === 1);
  await system.until(
    "those that were cut off once more",
    () => {
      const again = new Set(receiver.received.slice(cutOff).map(({ headers }) => headers["x-dryapi-delivery-id"]));
      return unanswered.every(({ headers }) => again.has(headers["x-dryapi-delivery-id"])) ? true : undefined;
    },
    () => receiver.received.length,
  );
  checkAll(ids, receiver.received);
  assert.ok(second.lines.every(({ level }) => level !== "fatal"));
});

test("redis killed -9 while webhooks are delivered: none is lost, none changes", async () => {
  await using system = await startSystem();
  await using receiver = await startReceiver();
  await using gateway = await startGateway(system, ENV);
  await system.startWorker();
  // What is answered while Redis is still away is delivered again when its lock has expired.
  await using courier = await startCourier(system, { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_LOCK_MS: "3s" });
  // Receivers answer only after the crash: until then deliveries are under way or wait for their turn.
  const held: (() => void)[] = [];
  receiver.answer = (_request, response) => void held.push(() => response.end("ok"));
  const ids = await submitAll(system, receiver, gateway.url);
  await system.until("deliveries under way", () => (held.length >= 10 ? true : undefined));
  await system.restartRedis();
  receiver.answer = (_request, response) => void response.end("ok");
  for (const answer of held) answer();
  for (const id of ids) assert.equal((await system.ended("fake", id)).state, "completed");
  await system.until(
    "every webhook",
    () => hasAll(receiver.received),
    () => receiver.received.length,
  );
  checkAll(ids, receiver.received);
  assert.ok(courier.lines.every(({ level }) => level !== "fatal"));
});
