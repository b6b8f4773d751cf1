import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import type { ServerResponse } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { openCourierRig, SECRET, type CourierRig } from "../../test/support/courier-rig.ts";
import { startReceiver, type Received, type Receiver } from "../../test/support/https-receiver.ts";
import { startRedisRig, type RedisRig } from "../../test/support/redis-rig.ts";
import { deliveryIdOf } from "../protocol/webhook.ts";
import type { Delivery } from "../state/open-deliveries.ts";

const HOUR_MS = 3_600_000;
const ATTEMPTS = 10;

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
  receiver.answer = (_request, response) => void response.end("ok");
});

let paths = 0;
/** A client and a path that no other test uses, and what arrives there. */
function fresh(): { readonly client: string; readonly url: string; readonly received: () => readonly Received[] } {
  paths += 1;
  const path = `/hook-${paths}`;
  const received = (): readonly Received[] => receiver.received.filter((request) => request.path === path);
  return { client: `client-${paths}`, url: receiver.url + path, received };
}

/** As receivers of the contract do it: the whole header, in constant time or not, against one secret. */
function takes(secret: string, { headers, body }: Received): boolean {
  const wanted = createHmac("sha256", secret)
    .update(`${String(headers["x-dryapi-timestamp"])}.${body}`)
    .digest("hex");
  return headers["x-dryapi-signature"] === `sha256=${wanted}`;
}

/** As off-the-shelf verifiers do it. */
function verifies(secret: string, { headers, body }: Received, format?: "raw"): boolean {
  try {
    new Webhook(secret, format === undefined ? {} : { format }).verify(body, headers as Record<string, string>);
    return true;
  } catch {
    return false;
  }
}

const answerWith = (status: number) => (_request: Received, response: ServerResponse) => void response.writeHead(status).end();

/** Answers 200 to what this secret signed, and otherwise as the public examples do it. */
const expecting =
  (secret: string, refusal: number) =>
  (request: Received, response: ServerResponse): void =>
    void response.writeHead(takes(secret, request) ? 200 : refusal).end();

/** One event: the end of a request that failed. */
async function tell(client: string, own: { readonly url?: string; readonly secret?: string } = {}): Promise<string> {
  const id = await rig.submit({ client, url: own.url ?? null, secret: own.secret ?? null });
  const claim = await rig.queues.claim("m");
  assert.ok(claim !== null);
  await rig.queues.fail(claim, { code: "INTERNAL", message: "x" });
  return id;
}

async function told(client: string, own: { readonly url?: string; readonly secret?: string } = {}): Promise<string> {
  const id = await tell(client, own);
  await rig.courier.runDue();
  return id;
}

async function delivery(id: string): Promise<Delivery> {
  const found = await rig.context.deliveries.get(deliveryIdOf(id, "end"));
  assert.ok(found !== null, `no delivery of ${id}`);
  return found;
}

async function again(id: string): Promise<void> {
  const { id: deliveryId } = await delivery(id);
  const number = await rig.context.deliveries.reopen(deliveryId);
  assert.ok(number !== null);
  await rig.queues.deliverAgain({ requestId: id, deliveryId, number });
  await rig.courier.runDue();
}

async function newSecret(client: string, options: { readonly replace?: boolean; readonly overlapMs?: number } = {}): Promise<string> {
  const secret = await rig.webhooks.createSecret(client, { replace: options.replace ?? false, overlapMs: options.overlapMs ?? HOUR_MS });
  assert.match(secret ?? "", /^whsec_[A-Za-z0-9+/]{43}=$/);
  return secret ?? "";
}

describe("what signs", () => {
  test("the account's secret signs what goes to a URL of a request, without a webhook of the account's", async () => {
    const { client, url, received } = fresh();
    const secret = await newSecret(client);
    const id = await told(client, { url });
    const [request] = received();
    assert.ok(request !== undefined);
    assert.deepEqual([takes(secret, request), verifies(secret, request)], [true, true]);
    assert.equal((await delivery(id)).attempts[0]?.signedWith, "account");
  });

  test("the request's own secret goes first, during an overlap too", async () => {
    const { client, url, received } = fresh();
    await newSecret(client);
    await newSecret(client, { replace: true });
    const id = await told(client, { url, secret: SECRET });
    const [request] = received();
    assert.ok(request !== undefined);
    assert.deepEqual([takes(SECRET, request), verifies(SECRET, request, "raw")], [true, true]);
    assert.equal(String(request.headers["webhook-signature"]).split(" ").length, 1);
    assert.equal((await delivery(id)).attempts[0]?.signedWith, "request");
  });

  test("without any secret the signature headers are there and empty; one made meanwhile signs the next attempt", async () => {
    const { client, url, received } = fresh();
    receiver.answer = answerWith(500);
    const id = await told(client, { url });
    const [first] = received();
    assert.deepEqual([first?.headers["x-dryapi-signature"], first?.headers["webhook-signature"]], ["", ""]);
    const secret = await newSecret(client);
    await rig.makeDue();
    await rig.courier.runDue();
    const second = received()[1];
    assert.ok(second !== undefined);
    assert.deepEqual([takes(secret, second), second.body], [true, first?.body]);
    assert.deepEqual(
      (await delivery(id)).attempts.map(({ signedWith }) => signedWith),
      [null, "account"],
    );
  });

  test("a secret of another account signs nothing here", async () => {
    const { client, url, received } = fresh();
    await newSecret(`${client}-other`);
    await told(client, { url });
    assert.equal(received()[0]?.headers["x-dryapi-signature"], "");
  });

  test("a webhook that is removed keeps the secret, and deliveries to it are given up", async () => {
    const { client, url, received } = fresh();
    const { secret } = await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 1 });
    receiver.answer = answerWith(500);
    const id = await told(client);
    await rig.webhooks.remove(client);
    await rig.makeDue();
    await rig.courier.runDue();
    const { state, attempts } = await delivery(id);
    assert.deepEqual([received().length, state, attempts[1]?.error], [1, "failed", "the account's webhook was removed"]);
    receiver.answer = answerWith(200);
    await told(client, { url });
    const last = received()[1];
    assert.ok(last !== undefined);
    assert.equal(takes(secret ?? "", last), true);
  });
});

describe("rotation", () => {
  test("a receiver that knows the old secret and one that knows the new one take every event of the overlap", async () => {
    for (const refusal of [400, 401, 403]) {
      const { client, url, received } = fresh();
      const old = await newSecret(client);
      const renewed = await newSecret(client, { replace: true });
      receiver.answer = expecting(old, refusal);
      const first = await told(client, { url });
      assert.equal(received().length, 1, "the old secret is tried first: its receivers are not changed yet");
      receiver.answer = expecting(renewed, refusal);
      const second = await told(client, { url });
      assert.equal(received().length, 3, "refused, and sent again at once with the new one");
      assert.equal(received()[1]?.body, received()[2]?.body);
      const third = await told(client, { url });
      assert.equal(received().length, 4, "it is remembered which one this receiver takes");
      for (const request of received()) assert.deepEqual([verifies(old, request), verifies(renewed, request)], [true, true]);
      const signers = await Promise.all([first, second, third].map(async (id) => (await delivery(id)).attempts));
      assert.deepEqual(
        signers.map((attempts) => attempts.map(({ status, signedWith }) => [status, signedWith])),
        [[[200, "account_previous"]], [[200, "account"]], [[200, "account"]]],
      );
      receiver.answer = expecting(old, refusal);
      await told(client, { url });
      assert.equal(received().length, 6, "a receiver that was set back is found again");
      assert.equal(takes(old, received()[5] as Received), true);
    }
  });

  test("only a refused signature is tried with the other secret", async () => {
    for (const status of [200, 302, 404, 429, 500]) {
      const { client, url, received } = fresh();
      await newSecret(client);
      await newSecret(client, { replace: true });
      receiver.answer = answerWith(status);
      await told(client, { url });
      assert.equal(received().length, 1, `status ${status}`);
    }
  });

  test("after the overlap the new secret alone signs, whether it ran out or was ended", async () => {
    const { client, url, received } = fresh();
    const old = await newSecret(client);
    const second = await newSecret(client, { replace: true, overlapMs: 0 });
    await told(client, { url });
    assert.deepEqual([takes(second, received()[0] as Received), verifies(old, received()[0] as Received)], [true, false]);
    const third = await newSecret(client, { replace: true });
    assert.notEqual((await rig.webhooks.settings(client)).previousSecretExpiresAt, null);
    await rig.webhooks.endOverlap(client);
    assert.equal((await rig.webhooks.settings(client)).previousSecretExpiresAt, null);
    await told(client, { url });
    assert.deepEqual([takes(third, received()[1] as Received), verifies(second, received()[1] as Received)], [true, false]);
  });

  test("a secret that is replaced twice signs no more: an account has one overlap at a time", async () => {
    const { client, url, received } = fresh();
    const first = await newSecret(client);
    receiver.answer = answerWith(500);
    await told(client, { url });
    const second = await newSecret(client, { replace: true });
    const third = await newSecret(client, { replace: true });
    await rig.makeDue();
    await rig.courier.runDue();
    const later = received()[1] as Received;
    assert.deepEqual(
      [first, second, third].map((secret) => verifies(secret, later)),
      [false, true, true],
    );
  });

  test("a delivery that is made again hours later is signed with what is valid then", async () => {
    const { client, url, received } = fresh();
    const { secret: old } = await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 1 });
    receiver.answer = answerWith(500);
    await told(client);
    assert.equal(takes(old ?? "", received()[0] as Received), true);
    const renewed = await newSecret(client, { replace: true, overlapMs: 0 });
    await rig.makeDue();
    await rig.courier.runDue();
    assert.equal(takes(renewed, received()[1] as Received), true);
  });

  test("of a secret only one is made, however many ask at once", async () => {
    const { client } = fresh();
    const made = await Promise.all(
      Array.from({ length: 20 }, () => rig.webhooks.createSecret(client, { replace: false, overlapMs: HOUR_MS })),
    );
    const [secret, ...others] = made.filter((one) => one !== null);
    assert.equal(others.length, 0);
    assert.deepEqual(
      (await rig.webhooks.accountSecrets(client, "https://x.example/")).map((one) => one.secret),
      [secret],
    );
  });
});

describe("failures of the account's URL", () => {
  async function exhausted(count: number, tellOne: () => Promise<string>): Promise<void> {
    receiver.answer = answerWith(500);
    for (let event = 0; event < count; event += 1) await tellOne();
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      await rig.courier.runDue();
      await rig.makeDue();
    }
  }

  test("ten events in a row exhausted switch it off; a success in between starts the count anew; URLs of requests count for nothing", async () => {
    const { client, url, received } = fresh();
    const change = { url, enabled: true, rotateSecret: false, at: 1 };
    await rig.webhooks.change(client, change);
    const count = async (): Promise<number> => (await rig.webhooks.settings(client)).failureCount;
    await exhausted(9, () => tell(client));
    assert.equal(await count(), 9);
    receiver.answer = answerWith(200);
    await told(client, { url });
    assert.equal(await count(), 9, "a request's URL resets nothing, though it is the same");
    await told(client);
    assert.equal(await count(), 0);
    await exhausted(9, () => tell(client));
    await exhausted(2, () => tell(client, { url: fresh().url }));
    await exhausted(2, () => tell(client, { url }));
    assert.equal(await count(), 9, "a request's URL counts for nothing, though it is the same");
    assert.equal((await rig.webhooks.settings(client)).enabled, true);
    await exhausted(1, () => tell(client));
    const off = await rig.webhooks.settings(client);
    assert.deepEqual([off.enabled, off.failureCount, off.disabledReason], [false, 10, "failures"]);
    assert.ok((off.disabledAt ?? 0) > 0);
    const before = received().length;
    await tell(client);
    await rig.courier.runDue();
    assert.equal(received().length, before);
    await rig.webhooks.change(client, change);
    const on = await rig.webhooks.settings(client);
    assert.deepEqual([on.enabled, on.failureCount, on.disabledAt, on.disabledReason], [true, 0, null, null]);
  });
});

describe("410", () => {
  test("switches the account's URL off with the reason; what waits for it ends; switching it on again lifts that", async () => {
    const { client, url, received } = fresh();
    await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 1 });
    receiver.answer = answerWith(500);
    const waiting = await told(client);
    receiver.answer = answerWith(410);
    const ended = await told(client);
    assert.deepEqual([(await delivery(ended)).state, received().length], ["failed", 2]);
    const off = await rig.webhooks.settings(client);
    assert.deepEqual([off.enabled, off.disabledReason], [false, "gone"]);
    await rig.makeDue();
    await rig.courier.runDue();
    assert.equal(received().length, 2);
    const { state, attempts } = await delivery(waiting);
    assert.equal(state, "failed");
    assert.match(attempts[1]?.error ?? "", /^the URL answered 410 \(gone\) at 20\d\d-.*, and nothing more is sent there/);
    receiver.answer = answerWith(200);
    await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 2 });
    assert.equal((await delivery(await told(client))).state, "delivered");
  });

  test("from a request's URL: nothing more of this account goes there, in any spelling; others' deliveries and URLs go on", async () => {
    const { client, url, received } = fresh();
    await rig.webhooks.change(client, { url: fresh().url, enabled: true, rotateSecret: false, at: 1 });
    receiver.answer = answerWith(410);
    await told(client, { url });
    receiver.answer = answerWith(200);
    const stopped = await told(client, { url: `${url.replace("https:", "HTTPS:")}#part` });
    assert.equal(received().length, 1);
    const { state, attempts } = await delivery(stopped);
    assert.deepEqual([state, attempts.length, attempts[0]?.status, attempts[0]?.signedWith], ["failed", 1, null, null]);
    assert.match(attempts[0]?.error ?? "", /410 \(gone\)/);
    assert.equal((await delivery(await told(client))).state, "delivered");
    assert.equal((await rig.webhooks.settings(client)).enabled, true);
    assert.equal((await delivery(await told(`${client}-other`, { url }))).state, "delivered");
    assert.equal((await delivery(await told(client, { url: `${url}?other` }))).state, "delivered");
  });

  test("a delivery that is asked for again goes to the URL, and an answer other than 410 opens it again", async () => {
    const { client, url, received } = fresh();
    receiver.answer = answerWith(410);
    const id = await told(client, { url });
    await again(id);
    assert.deepEqual([received().length, (await delivery(id)).state], [2, "failed"]);
    receiver.answer = answerWith(200);
    await told(client, { url });
    assert.equal(received().length, 2);
    await again(id);
    assert.deepEqual([received().length, (await delivery(id)).state], [3, "delivered"]);
    assert.equal((await delivery(await told(client, { url }))).state, "delivered");
  });

  test("from a request's URL that is the account's, too, switches the account's off", async () => {
    const { client, url } = fresh();
    await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 1 });
    receiver.answer = answerWith(410);
    await told(client, { url });
    const { enabled, disabledReason, failureCount } = await rig.webhooks.settings(client);
    assert.deepEqual([enabled, disabledReason, failureCount], [false, "gone", 0]);
  });
});

describe("what an earlier version stored", () => {
  test("a request with a URL and no secret is signed by the account's; settings and attempts without the new fields are read", async () => {
    const { client, url, received } = fresh();
    const { redis: connection, keys } = rig;
    const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    await connection.hset(keys.hook(client), {
      url,
      enabled: "0",
      failures: "10",
      disabled_at: "1700000000000",
      updated_at: "1600000000000",
    });
    await connection.set(keys.hookSecret(`client:${client}`), secret);
    const settings = await rig.webhooks.settings(client);
    assert.deepEqual(settings, {
      url,
      enabled: false,
      failureCount: 10,
      disabledAt: 1_700_000_000_000,
      disabledReason: "failures",
      updatedAt: 1_600_000_000_000,
      hasSecret: true,
      secretCreatedAt: null,
      previousSecretExpiresAt: null,
    });
    const id = await rig.submit({ client, url, secret: null });
    assert.equal(await connection.hget(keys.request(id), "webhook_secret_ref"), "", "as the earlier version writes it");
    await rig.run(id);
    const at = Date.now();
    const old = JSON.stringify({ at, durationMs: 5, status: 500, error: null, answer: "" });
    await rig.courier.runDue();
    assert.deepEqual(
      received().map((request) => takes(secret, request)),
      [true, true],
    );
    await connection.hset(keys.delivery(deliveryIdOf(id, "end")), "attempt:1", old);
    assert.deepEqual((await delivery(id)).attempts, [
      { number: 1, at, durationMs: 5, status: 500, error: null, answer: "", signedWith: null },
    ]);
  });

  test("a delivery to the account's webhook, by its name of then, is signed and counted as ever", async () => {
    const { client, url, received } = fresh();
    const { secret } = await rig.webhooks.change(client, { url, enabled: true, rotateSecret: false, at: 1 });
    const id = await told(client);
    assert.equal(await rig.redis.hget(rig.keys.delivery(deliveryIdOf(id, "end")), "secret_ref"), `client:${client}`);
    assert.equal(takes(secret ?? "", received()[0] as Received), true);
  });
});
