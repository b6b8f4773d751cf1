import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openCourierRig, type CourierRig } from "../../test/support/courier-rig.ts";
import { startReceiver } from "../../test/support/https-receiver.ts";
import { startRawReceiver, type RawReceiver } from "../../test/support/raw-receiver.ts";
import { startRedisRig, until, type RedisRig } from "../../test/support/redis-rig.ts";
import { deliveryIdOf } from "../protocol/webhook.ts";
import { Courier } from "./courier.ts";

let redis: RedisRig;
before(async () => {
  redis = await startRedisRig();
});
after(() => redis[Symbol.asyncDispose]());

const HTTP = { env: { DRYAPI_ALLOW_HTTP_WEBHOOKS: "1" } };
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/** An ended request whose delivery is due. */
async function addEnded(rig: CourierRig, client: string, url: string): Promise<string> {
  const id = await rig.submit({ url, client });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "INTERNAL", message: "x" });
  return id;
}

/** A courier that waits for its receivers as long as the test does, so that nothing here hangs on how fast the machine is. */
async function withPatientCourier(rig: CourierRig, work: (courier: Courier) => Promise<void>): Promise<void> {
  const { fetch } = rig.context;
  const send: typeof fetch.send = (post) => fetch.send({ ...post, timeoutMs: 3_600_000 });
  const courier = new Courier({ ...rig.context, fetch: { ...fetch, send } });
  const stop = new AbortController();
  const running = courier.run(stop.signal);
  try {
    await work(courier);
  } finally {
    stop.abort();
    await running;
    await courier.drain(0);
  }
}

test("250 receivers of one client that hang, each at an origin of its own, delay nobody else's webhook", async () => {
  await using rig = await openCourierRig(redis, HTTP);
  await using good = await startReceiver({ http: true });
  await using stack = new AsyncDisposableStack();
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const hanging: RawReceiver[] = [];
  for (let index = 0; index < 250; index += 1)
    hanging.push(stack.use(await startRawReceiver({ answer: ({ socket }) => void gate.then(() => socket.write(OK)) })));
  const underWay = (): number => hanging.reduce((sum, { requests }) => sum + requests.length, 0);
  for (const { url } of hanging) await addEnded(rig, "a", url);
  await withPatientCourier(rig, async (courier) => {
    await until("a's share of the places", () => underWay() === 128);
    for (let delivery = 1; delivery <= 40; delivery += 1) {
      await addEnded(rig, "b", `${good.url}/b`);
      courier.wake();
      await until(`b's delivery ${delivery}`, () => good.received.length === delivery);
    }
    // Not one of a's has ended meanwhile, and no more than a's share has begun.
    assert.equal(underWay(), 128);
    open();
    await until("all of a's, once they answer", () => underWay() === 250);
  });
});

test("a receiver that answers slowly and well is served beside one that hangs, of the same client", async () => {
  await using rig = await openCourierRig(redis, HTTP);
  const slow: (() => void)[] = [];
  await using hanging = await startRawReceiver({ answer: () => undefined });
  await using good = await startRawReceiver({ answer: ({ socket }) => void slow.push(() => socket.write(OK)) });
  for (let index = 0; index < 40; index += 1) await addEnded(rig, "a", hanging.url);
  for (let index = 0; index < 40; index += 1) await addEnded(rig, "a", good.url);
  await withPatientCourier(rig, async () => {
    for (let served = 0; served < 40;) {
      await until("the next of the slow one", () => slow.length > 0);
      assert.ok(slow.length <= 16);
      served += slow.length;
      for (const answer of slow.splice(0)) answer();
    }
    assert.equal(hanging.requests.length, 16);
  });
});

test("a busy receiver's Retry-After leaves out the attempts before it, and the log counts those that were made", async () => {
  await using rig = await openCourierRig(redis, HTTP);
  await using busy = await startReceiver({ http: true });
  busy.answer = (_request, response) => void response.writeHead(429, { "retry-after": "600" }).end();
  const id = await addEnded(rig, "a", `${busy.url}/busy`);
  const before = Date.now();
  await rig.courier.runDue();
  const delivery = await rig.context.deliveries.get(deliveryIdOf(id, "end"));
  assert.ok(delivery?.nextAttemptAt !== null && delivery !== null);
  // The schedule's fifth attempt, 18 minutes after the first: 1, 3 and 8 minutes are too early for 10.
  const waitMs = delivery.nextAttemptAt - before;
  assert.ok(waitMs >= 18 * 60_000 && waitMs < 20 * 60_000, `waits ${waitMs} ms`);
  assert.equal(delivery.attemptCount, 1);
  const client = await redis.connect();
  const base = `{${rig.config.namespace}}:webhooks:`;
  await client.zincrby(`${base}delayed`, -20 * 60_000 * 4_096, `${id}.end`);
  busy.answer = (_request, response) => void response.end();
  await rig.courier.runDue();
  assert.equal((await rig.context.deliveries.get(delivery.id))?.state, "delivered");
  assert.equal(await client.hget(`${base}${id}.end`, "atm"), "5");
});
