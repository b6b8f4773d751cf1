import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { REQUEST_VERSION } from "../../src/protocol/request.ts";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const PICTURE = { model: "tiny-flux-schnell", prompt: "a red fox", width: 64, height: 64, steps: 2 };
const PNG = await readFile(new URL("init-128.png", FLUX_FIXTURES));

/** No worker runs: requests stay in their queues, where the tests look at them. */
describe("submit", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let uploads: string;

  before(async () => {
    system = await startSystem();
    uploads = join(system.dir, "uploads");
    await mkdir(uploads);
    gateway = await startGateway(system, { TMPDIR: uploads });
    api = new ApiClient(gateway.url, await addClient(system));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  const form = (fields: Readonly<Record<string, string>>, image?: Uint8Array, field: string = "image"): FormData => {
    const body = new FormData();
    for (const [name, value] of Object.entries(fields)) body.append(name, value);
    if (image !== undefined) body.append(field, new Blob([Buffer.from(image)]), "anything.txt");
    return body;
  };

  test("takes JSON, and the request is recorded and queued with resolved parameters", async () => {
    const id = await api.submit("txt2img", { ...PICTURE, seed: -1, negative_prompt: "" });
    const record = await system.requests.get(id);
    assert.equal(record?.client, "tester");
    assert.deepEqual({ ...record.params, seed: 0 }, { prompt: "a red fox", width: 64, height: 64, steps: 2, seed: 0 });
    assert.ok(Number(record.params["seed"]) >= 0, "the seed is resolved");
    assert.equal(await system.state("tiny-flux-schnell", id), "waiting");
    await system.until("no mark of a missing job", async () =>
      (await system.index.unqueued(Date.now() + 1_000, 10)).length === 0 ? true : undefined,
    );
  });

  test("takes urlencoded bodies with numbers as texts", async () => {
    const body = new URLSearchParams({ ...PICTURE, width: "64", height: "64", steps: "2", seed: "7" });
    const record = await system.requests.get(await api.submit("txt2img", body));
    assert.deepEqual(record?.params, { prompt: "a red fox", width: 64, height: 64, steps: 2, seed: 7 });
  });

  test("takes multipart bodies with an image, judged by content and not by name", async () => {
    for (const field of ["image", "images[]"]) {
      const id = await api.submit("img2img", form({ model: "tiny-flux-schnell", prompt: "snow", steps: "2", width: "" }, PNG, field));
      const record = await system.requests.get(id);
      assert.equal(record?.inputs.length, 1);
      assert.equal(record.inputs[0]?.contentType, "image/png");
      assert.deepEqual([record.params["width"], record.params["height"]], [128, 128], "the image's own size");
      assert.deepEqual(await system.objects(`inputs/${id}`), ["0.png"]);
    }
    await system.until("no upload left over", async () => ((await readdir(uploads)).length === 0 ? true : undefined));
  });

  test("names every wrong field and stores nothing", async () => {
    const answer = await api.post("txt2img", { ...PICTURE, prompt: " ", width: 9_999, seed: "x" });
    assert.equal(answer.status, 422);
    assert.deepEqual(Object.keys(answer.body.errors).toSorted(), ["prompt", "seed", "width"]);
    assert.match(answer.body.message, /^The .* \(and 2 more errors\)$/);
    const bad = await api.post("img2img", form({ model: "tiny-flux-schnell", prompt: "snow" }, Buffer.from("no picture at all")));
    assert.equal(bad.status, 422);
    assert.deepEqual(bad.body.errors, { image: ["The image field must be a file of type: jpg, png, gif, bmp, webp."] });
    const none = await api.post("img2img", form({ model: "tiny-flux-schnell", prompt: "snow" }));
    assert.deepEqual(none.body.errors, { image: ["The image field is required."] });
  });

  test("refuses a decompression bomb by its header", async () => {
    const bomb = Buffer.from(PNG);
    bomb.writeUInt32BE(60_000, 16);
    bomb.writeUInt32BE(60_000, 20);
    const answer = await api.post("img2img", form({ model: "tiny-flux-schnell", prompt: "snow" }, bomb));
    assert.equal(answer.status, 422, JSON.stringify(answer.body));
    assert.ok(Array.isArray(answer.body.errors["image"]));
  });

  test("a model that is unknown, or not for this task, is 422 on model, which names those that are; an unknown task is 404", async () => {
    const { body } = await api.get("/api/v1/client/models?filter[inference_types]=txt2img");
    const pictures = (body["data"] as unknown as readonly { readonly slug: string }[]).map(({ slug }) => slug);
    assert.ok(pictures.includes("tiny-flux-schnell"));
    const models = `Models for txt2img: ${pictures.join(", ")}.`;
    for (const [task, model, text] of [
      ["txt2img", "nothing", models],
      ["txt2img", ["a"], models],
      ["txt2img", "Tiny Flux Schnel", `Did you mean tiny-flux-schnell? ${models}`],
      ["txt2audio", "tiny-flux-schnell", "Model tiny-flux-schnell is for txt2img, img2img. No model for txt2audio is installed."],
    ] as const) {
      const answer = await api.post(task, { ...PICTURE, model });
      assert.equal(answer.status, 422);
      const message = `The selected model is invalid. ${text}`;
      assert.deepEqual(answer.body, { message, errors: { model: [message] } });
    }
    assert.equal((await api.post("txt2smell", PICTURE)).status, 404);
  });

  test("answers as the contract words it when the request is no good at all", async () => {
    const post = (body: string, type: string) => api.post("txt2img", body, { "Content-Type": type });
    assert.equal((await post("{", "application/json")).status, 400);
    assert.equal((await post("<x/>", "application/xml")).status, 415);
    assert.equal((await post("[]", "application/json")).status, 400);
    assert.equal((await post(JSON.stringify({ prompt: "x".repeat(5_000_000) }), "application/json")).status, 413);
    for (const key of [null, "", "tester|wrong", "nobody|aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "tester"]) {
      const answer = await new ApiClient(gateway.url, key).post("txt2img", PICTURE);
      assert.equal(answer.status, 401);
      assert.deepEqual(answer.body, { message: "Unauthenticated." });
    }
    const missing = await api.get("/api/v1/nothing");
    assert.deepEqual([missing.status, missing.body], [404, { message: "Not found." }]);
  });

  test("the same Idempotency-Key is the same request; with other content it is refused", async () => {
    const key = { "Idempotency-Key": randomUUID() };
    const first = await api.submit("txt2img", { ...PICTURE, seed: 3 }, key);
    assert.equal(await api.submit("txt2img", { seed: 3, ...PICTURE }, key), first);
    assert.equal(
      await api.submit("txt2img", new URLSearchParams({ ...PICTURE, width: "64", height: "64", steps: "2", seed: "3" }), key),
      first,
    );
    const other = await api.post("txt2img", { ...PICTURE, seed: 4 }, key);
    assert.equal(other.status, 422);
    assert.ok(Array.isArray(other.body.errors["Idempotency-Key"]));
    const files = { "Idempotency-Key": randomUUID() };
    const fields = { model: "tiny-flux-schnell", prompt: "snow" };
    const id = await api.submit("img2img", form(fields, PNG), files);
    assert.equal(await api.submit("img2img", form(fields, PNG), files), id);
    // A refused request leaves its key free.
    const again = { "Idempotency-Key": randomUUID() };
    assert.equal((await api.post("txt2img", { ...PICTURE, steps: 999 }, again)).status, 422);
    await api.submit("txt2img", PICTURE, again);
  });

  test("limits submits per client over all gateways, in the words of the contract", async () => {
    const limited = new ApiClient(gateway.url, await addClient(system, { id: "limited", ratePerMinute: 3 }));
    await using second = await startGateway(system);
    const elsewhere = new ApiClient(second.url, await addClient(system, { id: "daily", ratePerDay: 1, ratePerMinute: 0 }));
    const sent = [];
    for (let i = 0; i < 5; i += 1) sent.push(await limited.post("txt2img", PICTURE));
    const statuses = sent.map(({ status }) => status);
    // A minute may begin in between.
    assert.ok(statuses.includes(429) && statuses.filter((status) => status === 200).length >= 3, statuses.join());
    const refused = sent.find(({ status }) => status === 429);
    assert.deepEqual(refused?.body, { message: "Too Many Attempts." });
    assert.equal(refused.headers.get("x-ratelimit-limit"), "3");
    assert.equal(refused.headers.get("x-ratelimit-remaining"), "0");
    assert.equal(refused.headers.get("x-ratelimit-type"), "minute");
    assert.ok(Number(refused.headers.get("retry-after")) >= 1);
    assert.equal((await elsewhere.post("txt2img", PICTURE)).status, 200);
    const daily = await elsewhere.post("txt2img", PICTURE);
    assert.deepEqual([daily.status, daily.headers.get("x-ratelimit-type")], [429, "daily"]);
  });

  test("a record whose gateway died before the add is queued by the sweep", async () => {
    const id = randomUUID();
    const at = Date.now() - 60_000;
    const params = { prompt: "x", width: 64, height: 64, steps: 1, seed: 1 };
    await system.requests.create({
      v: REQUEST_VERSION,
      id,
      queue: "tiny-flux-schnell",
      client: "tester",
      task: "txt2img",
      model: "tiny-flux-schnell",
      params,
      inputs: [],
      priority: 10,
      timeoutMs: 60_000,
      webhookUrl: null,
      webhookSecretRef: null,
      createdAt: at,
      startedAt: null,
      cancelledAt: null,
    });
    assert.equal(await system.state("tiny-flux-schnell", id), "gone");
    assert.equal((await api.status(id))["status"], "pending");
    await system.until("the repaired job", async () => ((await system.state("tiny-flux-schnell", id)) === "waiting" ? true : undefined));
    await system.until("no mark of a missing job", async () =>
      (await system.index.unqueued(Date.now() + 1_000, 10)).length === 0 ? true : undefined,
    );
  });

  test("a disabled client is nobody", async () => {
    const client = new ApiClient(gateway.url, await addClient(system, { id: "gone" }));
    assert.equal((await client.get("/api/v1/client/balance")).status, 200);
    await system.client.hset(system.keys.client("gone"), "enabled", "0");
    // Asked all the while: being known must not last longer for it.
    await system.until("the refusal", async () => ((await client.get("/api/v1/client/balance")).status === 401 ? true : undefined));
  });

  test("without Redis it answers 503 and accepts nothing by halves; afterwards it works", async () => {
    const stopped = process.kill(system.redis.pid, "SIGSTOP");
    assert.ok(stopped);
    try {
      const answer = await api.post("txt2img", PICTURE);
      assert.deepEqual([answer.status, answer.body], [503, { message: "The queue does not answer now. Please try again." }]);
      assert.equal(answer.headers.get("retry-after"), "5");
    } finally {
      process.kill(system.redis.pid, "SIGCONT");
    }
    await system.until("an accepted request", async () => ((await api.post("txt2img", PICTURE)).status === 200 ? true : undefined));
  });

  test("every answer carries a request id and safe headers; SIGTERM ends it with 0", async () => {
    const answer = await api.get("/api/v1/client/balance");
    assert.match(answer.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.equal(answer.headers.get("x-powered-by"), null);
    assert.equal(answer.headers.get("access-control-allow-origin"), "*");
    await using other = await startGateway(system);
    assert.equal(await other.stop(), 0);
  });
});
