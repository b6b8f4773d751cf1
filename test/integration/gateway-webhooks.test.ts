import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, before, describe, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { addClient, ApiClient, startGateway, type Answer, type GatewayProcess } from "../support/gateway.ts";
import { startReceiver, type Received, type Receiver } from "../support/https-receiver.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const JOB = { model: "fake", prompt: "x", width: 64, height: 64, steps: 1 };
const SETTINGS = "/api/v1/client/settings/webhook";
const NOTHING = {
  url: null,
  enabled: false,
  failure_count: 0,
  disabled_at: null,
  disabled_reason: null,
  updated_at: null,
  has_secret: false,
  secret_created_at: null,
  previous_secret_expires_at: null,
};

/** A gateway with its courier, no worker: requests end by being cancelled. */
describe("webhooks of an account", () => {
  let system: TestSystem;
  let receiver: Receiver;
  let gateway: GatewayProcess;
  let clients = 0;

  before(async () => {
    system = await startSystem();
    receiver = await startReceiver();
    gateway = await startGateway(system, { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_EGRESS_ALLOW: "127.0.0.0/8" });
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await receiver[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  /** An account that no other test uses, and a URL of its own. */
  async function account(): Promise<{ readonly api: ApiClient; readonly url: string; readonly received: () => readonly Received[] }> {
    clients += 1;
    const path = `/of-${clients}`;
    return {
      api: new ApiClient(gateway.url, await addClient(system, { id: `account-${clients}` })),
      url: receiver.url + path,
      received: () => receiver.received.filter((request) => request.path === path),
    };
  }

  const dataOf = ({ status, body }: Answer): Answer["body"]["data"] => {
    assert.equal(status, 200, JSON.stringify(body));
    return body.data;
  };
  const answer = (status: number): void => {
    receiver.answer = (_request, response: ServerResponse) => void response.writeHead(status).end();
  };
  const verified = (secret: unknown, { body, headers }: Received): unknown =>
    new Webhook(String(secret)).verify(body, headers as Record<string, string>);

  /** A request whose end is told, and its delivery once that has ended. */
  async function told(api: ApiClient, extra: Readonly<Record<string, unknown>> = {}): Promise<Readonly<Record<string, unknown>>> {
    const id = await api.submit("txt2img", { ...JOB, ...extra });
    dataOf(await api.post(`requests/${id}/cancel`));
    return system.until("the end of the delivery", async () => {
      const { body } = await api.get(`/api/v1/client/requests/${id}/deliveries`);
      const [delivery] = body.data as unknown as readonly Readonly<Record<string, unknown>>[];
      return delivery === undefined || delivery["status"] === "pending" ? undefined : delivery;
    });
  }

  test("a secret is made without a URL, replaced only when that is asked for, and shown once", async () => {
    const { api } = await account();
    assert.deepEqual(dataOf(await api.get(SETTINGS)), NOTHING);
    const first = await api.post("settings/webhook/secret");
    const { secret, secret_created_at: createdAt, ...rest } = dataOf(first);
    assert.match(String(secret), /^whsec_[A-Za-z0-9+/]{43}=$/);
    assert.equal(first.headers.get("cache-control"), "no-store");
    assert.ok(Math.abs(Date.parse(String(createdAt)) - Date.now()) < 120_000, String(createdAt));
    const { secret_created_at: _none, ...nothing } = NOTHING;
    assert.deepEqual(rest, { ...nothing, has_secret: true });
    assert.equal("secret" in dataOf(await api.get(SETTINGS)), false);

    for (const body of [{}, { replace: false }, { replace: "0", overlap_hours: 5 }]) {
      const refused = await api.post("settings/webhook/secret", body);
      assert.equal(refused.status, 409);
      assert.match(refused.body.message, /replace: true/);
    }
    const renewed = dataOf(await api.post("settings/webhook/secret", { replace: true }));
    assert.notEqual(renewed["secret"], secret);
    const hours =
      (Date.parse(String(renewed["previous_secret_expires_at"])) - Date.parse(String(renewed["secret_created_at"]))) / 3_600_000;
    assert.ok(Math.abs(hours - 24) < 0.1, `${hours} hours`);
    assert.equal(dataOf(await api.send("DELETE", `${SETTINGS}/secret/previous`))["previous_secret_expires_at"], null);
    assert.equal(dataOf(await api.send("DELETE", `${SETTINGS}/secret/previous`))["has_secret"], true);
    const at = dataOf(await api.post("settings/webhook/secret", { replace: true, overlap_hours: 168 }));
    const week = (Date.parse(String(at["previous_secret_expires_at"])) - Date.parse(String(at["secret_created_at"]))) / 3_600_000;
    assert.ok(Math.abs(week - 168) < 0.1, `${week} hours`);
    assert.equal(
      dataOf(await api.post("settings/webhook/secret", { replace: true, overlap_hours: 0 }))["previous_secret_expires_at"],
      null,
    );
    for (const overlap of [-1, 169, 1.5, "long"]) {
      const refused = await api.post("settings/webhook/secret", { replace: true, overlap_hours: overlap });
      assert.deepEqual([refused.status, Object.keys(refused.body.errors)], [422, ["overlap_hours"]]);
    }
  });

  test("a URL that is set takes the secret that there is; rotate_secret replaces it with an overlap; removing the URL keeps it", async () => {
    const { api, url } = await account();
    dataOf(await api.post("settings/webhook/secret"));
    const set = dataOf(await api.send("PUT", SETTINGS, { url }));
    assert.deepEqual([set["url"], set["enabled"], "secret" in set], [url, true, false]);
    const rotated = await api.send("PUT", SETTINGS, { rotate_secret: true });
    assert.match(String(dataOf(rotated)["secret"]), /^whsec_/);
    assert.equal(rotated.headers.get("cache-control"), "no-store");
    assert.notEqual(rotated.body.data["previous_secret_expires_at"], null);
    const removed = dataOf(await api.send("PUT", SETTINGS, { url: "" }));
    assert.deepEqual([removed["url"], removed["enabled"], removed["updated_at"], removed["has_secret"]], [null, false, null, true]);
    const { api: other, url: otherUrl } = await account();
    assert.match(String(dataOf(await other.send("PUT", SETTINGS, { url: otherUrl }))["secret"]), /^whsec_/, "made with the first URL");
  });

  test("a request's URL gets the account's signature; one that answers 410 gets nothing more, and the log says so", async () => {
    const { api, url, received } = await account();
    const { secret } = dataOf(await api.post("settings/webhook/secret"));
    answer(200);
    const first = await told(api, { webhook_url: url });
    assert.equal(first["status"], "delivered");
    verified(secret, received()[0] as Received);
    answer(410);
    assert.equal((await told(api, { webhook_url: url }))["status"], "failed");
    const closed = await told(api, { webhook_url: url });
    const [attempt] = closed["attempts"] as readonly Readonly<Record<string, unknown>>[];
    assert.deepEqual([closed["status"], attempt?.["response_status"], attempt?.["signed_with"]], ["failed", null, null]);
    assert.match(String(attempt?.["error"]), /410 \(gone\)/);
    assert.equal(received().length, 2);
  });

  test("an account's URL that answers 410 is switched off; settings say why, and PUT switches it on again", async () => {
    const { api, url, received } = await account();
    const { secret } = dataOf(await api.send("PUT", SETTINGS, { url }));
    answer(410);
    await told(api);
    const off = dataOf(await api.get(SETTINGS));
    assert.deepEqual([off["enabled"], off["disabled_reason"]], [false, "gone"]);
    assert.ok(!Number.isNaN(Date.parse(String(off["disabled_at"]))));
    answer(200);
    const on = dataOf(await api.send("PUT", SETTINGS, { enabled: true }));
    assert.deepEqual([on["enabled"], on["disabled_reason"], on["disabled_at"]], [true, null, null]);
    assert.equal((await told(api))["status"], "delivered");
    verified(secret, received().at(-1) as Received);
  });

  test("a test says what is wrong with it, needs a URL, and its failure counts for nothing", async () => {
    const { api, url, received } = await account();
    assert.equal((await api.post("settings/webhook/test")).status, 409);
    const wrong = await api.post("settings/webhook/test", { event: "job.done", url: "http://x.example/" });
    assert.deepEqual([wrong.status, Object.keys(wrong.body.errors).toSorted()], [422, ["event", "url"]]);
    answer(200);
    const unsigned = dataOf(await api.post("settings/webhook/test", { url }));
    assert.deepEqual([unsigned["delivered"], unsigned["signed_with"]], [true, null]);
    assert.equal(received()[0]?.headers["x-dryapi-signature"], "");
    const { secret } = dataOf(await api.send("PUT", SETTINGS, { url }));
    answer(410);
    const failed = dataOf(await api.post("settings/webhook/test"));
    assert.deepEqual([failed["delivered"], failed["response_status"], failed["signed_with"]], [false, 410, "account"]);
    verified(secret, received()[1] as Received);
    const { enabled, failure_count: count } = dataOf(await api.get(SETTINGS));
    assert.deepEqual([enabled, count], [true, 0]);
  });
});
