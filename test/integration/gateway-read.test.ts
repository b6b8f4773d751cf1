import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import sharp from "sharp";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const PICTURE = { model: "tiny-flux-schnell", prompt: "a red fox", width: 64, height: 64, steps: 2, seed: 5 };
const STATUS_FIELDS = [
  "request_id",
  "task",
  "model",
  "created_at",
  "params",
  "params_truncated",
  "status",
  "progress",
  "preview",
  "result_url",
  "results_alt_formats",
  "result",
  "result_omitted",
  "error_code",
  "error_message",
  "error_reason",
  "error_field",
  "retryable",
  "failed_at",
  "error",
  "queue_position",
  "eta_ms",
  "waiting_reason",
  "waiting_message",
  "processing_time_ms",
  "seed",
  "timings",
];

/** Real daemon, real gateway, real Flux. */
describe("reading", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let other: ApiClient;

  before(async () => {
    system = await startSystem();
    await system.startWorker();
    gateway = await startGateway(system, { DRYAPI_MODELS: "fake,tiny-flux-schnell,tiny-flux-dev" });
    api = new ApiClient(gateway.url, await addClient(system));
    other = new ApiClient(gateway.url, await addClient(system, { id: "other" }));
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  const ended = (id: string): Promise<Readonly<Record<string, unknown>>> => {
    let last: unknown;
    return system.until(
      "the end",
      async () => {
        const status = await api.status(id);
        last = status;
        return status["status"] === "done" || status["status"] === "error" ? status : undefined;
      },
      () => last,
    );
  };

  test("a request is followed to its picture, in all formats, whole and in ranges", async () => {
    const id = await api.submit("txt2img", PICTURE);
    const status = await ended(id);
    assert.deepEqual(Object.keys(status).toSorted(), STATUS_FIELDS.toSorted());
    assert.equal(status["status"], "done");
    assert.equal(status["progress"], 100);
    assert.equal(status["seed"], 5);
    for (const field of ["preview", "result", "error", "error_code", "queue_position", "eta_ms"]) assert.equal(status[field], null, field);
    assert.ok(Number.isInteger(status["processing_time_ms"]));
    assert.ok(Number((status["timings"] as Record<string, number>)["run_ms"]) > 0);
    const alt = status["results_alt_formats"] as Record<string, string>;
    assert.deepEqual(Object.keys(alt).toSorted(), ["jpg", "webp"]);
    for (const [url, type] of [
      [status["result_url"], "image/png"],
      [alt["jpg"], "image/jpeg"],
      [alt["webp"], "image/webp"],
    ] as const) {
      const response = await fetch(String(url));
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), type);
      assert.equal(response.headers.get("x-content-type-options"), "nosniff");
      assert.equal(response.headers.get("access-control-allow-origin"), "*");
      const { width, height } = await sharp(Buffer.from(await response.arrayBuffer())).metadata();
      assert.deepEqual([width, height], [64, 64]);
    }
    await assertRanges(String(status["result_url"]));
  });

  async function assertRanges(url: string): Promise<void> {
    const whole = Buffer.from(await (await fetch(url)).arrayBuffer());
    const get = (range: string) => fetch(url, { headers: { Range: range } });
    for (const [range, expected] of [
      ["bytes=0-9", whole.subarray(0, 10)],
      ["bytes=10-", whole.subarray(10)],
      ["bytes=-5", whole.subarray(-5)],
      [`bytes=5-${whole.length + 100}`, whole.subarray(5)],
    ] as const) {
      const response = await get(range);
      assert.equal(response.status, 206, range);
      assert.deepEqual(Buffer.from(await response.arrayBuffer()), expected, range);
      assert.match(response.headers.get("content-range") ?? "", new RegExp(`^bytes \\d+-\\d+/${whole.length}$`));
    }
    assert.equal((await get(`bytes=${whole.length}-`)).status, 416);
    assert.equal((await get("bytes=9-3")).status, 200, "a range that is none is left aside");
  }

  test("status and list say what was asked, resolved; the list in bounded room", async () => {
    const prompt = "ß".repeat(10_000);
    const id = await api.submit("txt2img", { model: "tiny-flux-schnell", prompt, width: 70, steps: 1 });
    const status = await ended(id);
    const asked = { prompt, width: 64, height: 128, steps: 1, seed: status["seed"] };
    assert.deepEqual(status["params"], asked);
    assert.deepEqual([status["task"], status["model"], status["params_truncated"]], ["txt2img", "tiny-flux-schnell", false]);
    const { body } = await api.get("/api/v1/client/requests?limit=1");
    const [row] = body["data"] as unknown as readonly Readonly<Record<string, unknown>>[];
    assert.equal(row?.["created_at"], status["created_at"]);
    assert.deepEqual(row?.["params"], { ...asked, prompt: "ß".repeat(300) });
    assert.equal(row?.["params_truncated"], true);
  });

  test("a link is good for its one file until it expires, and for nothing else", async () => {
    const status = await ended(await api.submit("txt2img", PICTURE));
    const url = new URL(String(status["result_url"]));
    const statusOf = async (change: (changed: URL) => void): Promise<number> => {
      const changed = new URL(url);
      change(changed);
      return (await fetch(changed)).status;
    };
    assert.equal(await statusOf(() => undefined), 200);
    assert.equal(await statusOf((changed) => changed.searchParams.set("exp", "9999999999")), 403);
    assert.equal(await statusOf((changed) => (changed.pathname = changed.pathname.replace(".png", ".jpg"))), 403);
    assert.equal(await statusOf((changed) => changed.searchParams.delete("sig")), 403);
    assert.equal(await statusOf((changed) => changed.searchParams.set("sig", "0".repeat(64))), 403);
  });

  test("a failure is told in the contract's words", async () => {
    const id = await api.submit("txt2img", {
      model: "fake",
      prompt: "x",
      width: 64,
      height: 64,
      steps: 1,
      fault: { at: "text", kind: "invalid_input" },
    });
    const status = await ended(id);
    assert.equal(status["status"], "error");
    assert.equal(status["error_code"], "INVALID_INPUT");
    assert.equal(status["error_reason"], "INVALID_INPUT");
    assert.equal(status["error_message"], "The request's input is invalid. The fault field asks for it.");
    assert.equal(status["error_field"], "fault");
    assert.equal(status["error"], status["error_message"]);
    assert.equal(status["retryable"], false);
    assert.ok(!Number.isNaN(Date.parse(String(status["failed_at"]))));
    assert.equal(status["result_url"], null);
  });

  test("who waits is told his place and a time, who runs his progress and a preview; a cancel ends both", async () => {
    using gate = system.gate();
    const slow = { model: "fake", prompt: "x", width: 64, height: 64, steps: 3, fault: { ...gate.fault, step: 2 } };
    const running = await api.submit("txt2img", slow);
    await system.event((event) => event.id === running && event.type === "preview");
    const waiting = await api.submit("txt2img", slow);
    const last = await api.submit("txt2img", slow);
    const now = await api.status(running);
    assert.equal(now["status"], "processing");
    assert.match(String(now["preview"]), /^data:image\/jpeg;base64,/);
    assert.ok(Number(now["progress"]) >= 0 && Number(now["progress"]) < 100);
    const [first, second] = [await api.status(waiting), await api.status(last)];
    assert.deepEqual([first["status"], first["queue_position"], second["queue_position"]], ["pending", 1, 2]);
    assert.equal(first["processing_time_ms"], null);
    for (const id of [waiting, last, running]) {
      const answer = await api.post(`requests/${id}/cancel`);
      assert.equal(answer.status, 200);
      assert.deepEqual([answer.body.data["status"], answer.body.data["error_code"]], ["error", "CANCELLED"]);
      assert.equal((await api.post(`requests/${id}/cancel`)).status, 409);
    }
  });

  test("requests are listed newest first, page by page and by status", async () => {
    const ids = [];
    for (let i = 0; i < 5; i += 1) ids.push(await other.submit("txt2img", { ...PICTURE, seed: i }));
    const seen: unknown[] = [];
    let cursor: unknown = "";
    do {
      const { body } = await other.get(`/api/v1/client/requests?limit=2&cursor=${String(cursor)}`);
      seen.push(...(body.data as unknown as Record<string, unknown>[]).map((row) => row["request_id"]));
      cursor = (body["meta"] as Record<string, unknown>)["next_cursor"];
    } while (cursor !== null);
    assert.deepEqual(seen, ids.toReversed());
    assert.equal((await other.get("/api/v1/client/requests?status=nothing")).status, 422);
    const errors = await api.get("/api/v1/client/requests?status=error&limit=50");
    const rows = errors.body.data as unknown as readonly Record<string, unknown>[];
    assert.ok(rows.length >= 3 && rows.every((row) => row["status"] === "error"));
  });

  test("somebody else's request is not there", async () => {
    const id = await api.submit("txt2img", PICTURE);
    for (const path of [`/api/v1/client/request-status/${id}`, "/api/v1/client/request-status/none"]) {
      const answer = await other.get(path);
      assert.deepEqual([answer.status, answer.body], [404, { message: "Not found." }]);
    }
    assert.equal((await other.post(`requests/${id}/cancel`)).status, 404);
  });

  test("models come in Laravel's pages, filtered by inference type", async () => {
    const { body } = await api.get("/api/v1/client/models?page=1&limit=2");
    const meta = body["meta"] as Record<string, unknown>;
    assert.deepEqual(
      [meta["current_page"], meta["per_page"], meta["total"], meta["last_page"], meta["from"], meta["to"]],
      [1, 2, 4, 2, 1, 2],
    );
    const links = body["links"] as Record<string, string | null>;
    assert.equal(links["prev"], null);
    const second = await api.get(String(links["next"]));
    const rows = [body.data, second.body.data] as unknown as Record<string, unknown>[][];
    assert.deepEqual(
      rows.flat().map(({ slug }) => slug),
      ["fake", "fake-b", "tiny-flux-dev", "tiny-flux-schnell"],
      "fake-b, too: a worker serves it",
    );
    const model = rows.flat().find(({ slug }) => slug === "tiny-flux-dev");
    assert.deepEqual(model?.["inference_types"], ["txt2img", "img2img"]);
    const { limits } = (model?.["info"] ?? { limits: {} }) as { limits: Record<string, number> };
    assert.ok(Number(limits["max_width"]) > 0);
    const none = await api.get("/api/v1/client/models?filter[inference_types]=nothing");
    assert.deepEqual(none.body.data, []);
    const sdk = await api.get("/api/v1/client/models?page=2&per_page=2");
    const asked = sdk.body["meta"] as Record<string, unknown>;
    assert.deepEqual([asked["per_page"], asked["current_page"]], [2, 2], "as deAPI's Python SDK asks");
    const clamped = await api.get("/api/v1/client/models?limit=1000");
    assert.equal((clamped.body["meta"] as Record<string, unknown>)["per_page"], 50);
  });

  test("nothing is charged", async () => {
    assert.deepEqual((await api.get("/api/v1/client/balance")).body, { data: { balance: 1_000_000 } });
    assert.deepEqual((await api.post("txt2img/price-calculation", PICTURE)).body, { data: { price: 0 } });
    assert.equal((await api.post("txt2img/price-calculation", { model: "none" })).status, 422);
  });
});
