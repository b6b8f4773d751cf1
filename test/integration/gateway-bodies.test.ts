import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import sharp from "sharp";
import { FormData as UndiciForm, fetch as undiciFetch, request as undiciRequest } from "undici";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const MODEL = "tiny-flux-schnell";
const SNOW = { model: MODEL, prompt: "snow", steps: "2" };
const PNG = await readFile(new URL("init-128.png", FLUX_FIXTURES));
const MIB = 1024 * 1024;

/** What real clients send, and what no client should; no worker runs, so that requests stay where the tests look at them. */
describe("request bodies", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let key: string;
  let uploads: string;

  before(async () => {
    system = await startSystem();
    uploads = join(system.dir, "uploads");
    await mkdir(uploads);
    gateway = await startGateway(system, { TMPDIR: uploads });
    key = await addClient(system, { ratePerMinute: 0 });
    api = new ApiClient(gateway.url, key);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  const formOf = (fields: Readonly<Record<string, string>>, ...images: readonly Uint8Array[]): FormData => {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    for (const image of images) form.append("image", new Blob([Buffer.from(image)]), "picture");
    return form;
  };
  const noUploadsLeft = (): Promise<true> =>
    system.until("no upload left over", async () => ((await readdir(uploads)).length === 0 ? true : undefined));
  /** A multipart request that the test writes itself, chunked. */
  const openForm = (): { readonly sent: ClientRequest; readonly answer: Promise<{ status: number; body: unknown }> } => {
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "multipart/form-data; boundary=B" };
    const sent = httpRequest(`${gateway.url}/api/v1/client/img2img`, { method: "POST", headers });
    const answer = once(sent, "response", { signal: AbortSignal.timeout(WAIT_MS) }).then(async ([response]) => {
      const message = response as IncomingMessage;
      return { status: message.statusCode ?? 0, body: JSON.parse((await message.toArray()).join("")) as unknown };
    });
    return { sent, answer };
  };
  const field = (name: string, value: string): string => `--B\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
  const file = `--B\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n`;

  test("curl and undici send what fetch sends", async () => {
    const path = join(system.dir, "fox.png");
    await writeFile(path, PNG);
    const url = `${gateway.url}/api/v1/client/img2img`;
    const args = [
      "-sS",
      url,
      "-H",
      `Authorization: Bearer ${key}`,
      "-F",
      `model=${MODEL}`,
      "-F",
      "prompt=snow",
      "-F",
      "steps=2",
      "-F",
      `image=@${path}`,
    ];
    const { stdout } = await promisify(execFile)("curl", args);
    const byCurl = (JSON.parse(stdout) as { data: { request_id: string } }).data.request_id;
    const form = new UndiciForm();
    for (const [name, value] of Object.entries(SNOW)) form.append(name, value);
    form.append("images[]", new File([PNG], "fox.png"));
    const sent = await undiciFetch(url, { method: "POST", headers: { Authorization: `Bearer ${key}` }, body: form });
    assert.equal(sent.status, 200);
    const byUndici = ((await sent.json()) as { data: { request_id: string } }).data.request_id;
    const byFetch = await api.submit("img2img", formOf(SNOW, PNG));
    const records = await Promise.all([byCurl, byUndici, byFetch].map((id) => system.requests.get(id)));
    for (const record of records) {
      assert.deepEqual({ ...record?.params, seed: 0 }, { prompt: "snow", width: 128, height: 128, steps: 2, strength: 0.6, seed: 0 });
      assert.equal(record?.inputs[0]?.sha256, records[0]?.inputs[0]?.sha256);
    }
    const plain = ["-sS", `${gateway.url}/api/v1/client/txt2img`, "-H", `Authorization: Bearer ${key}`];
    const { stdout: said } = await promisify(execFile)("curl", [...plain, "-d", `model=${MODEL}&prompt=a+fox&width=64&height=64`]);
    assert.match(said, /request_id/);
    const streamed = await undiciRequest(`${gateway.url}/api/v1/client/txt2img`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json; charset=utf-8" },
      body: Readable.from(['{"model":"tiny-flux-schnell","prompt":', '"a f\u00f6x","width":64,"height":64}']),
    });
    assert.equal(streamed.statusCode, 200);
    await streamed.body.dump();
    await noUploadsLeft();
  });

  test("every image format of the contract is taken with its size, others are not", async () => {
    const picture = sharp({ create: { width: 80, height: 96, channels: 3, background: "red" } });
    const bmp = Buffer.alloc(54 + 80 * 96 * 3);
    bmp.write("BM");
    bmp.writeUInt32LE(bmp.length, 2);
    for (const [at, value] of [
      [10, 54],
      [14, 40],
      [18, 80],
      [22, -96 >>> 0],
    ] as const)
      bmp.writeUInt32LE(value, at);
    bmp.writeUInt16LE(1, 26);
    bmp.writeUInt16LE(24, 28);
    const taken = {
      "image/jpeg": await picture.clone().jpeg().toBuffer(),
      "image/png": await picture.clone().png().toBuffer(),
      "image/webp": await picture.clone().webp().toBuffer(),
      "image/gif": await picture.clone().gif().toBuffer(),
      "image/bmp": bmp,
    };
    for (const [type, bytes] of Object.entries(taken)) {
      const record = await system.requests.get(await api.submit("img2img", formOf(SNOW, bytes)));
      assert.equal(record?.inputs[0]?.contentType, type);
      assert.deepEqual([record.params["width"], record.params["height"]], [80, 96], type);
    }
    const onItsSide = await picture.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer();
    const turned = await system.requests.get(await api.submit("img2img", formOf(SNOW, onItsSide)));
    assert.deepEqual([turned?.params["width"], turned?.params["height"]], [96, 80], "as it will be seen");
    const refused = [
      await picture.clone().avif().toBuffer(),
      await picture.clone().tiff().toBuffer(),
      Buffer.from("<svg width='100' height='100'/>"),
    ];
    for (const bytes of refused) {
      const answer = await api.post("img2img", formOf(SNOW, bytes));
      assert.deepEqual([answer.status, answer.body.message], [422, "The image field must be a file of type: jpg, png, gif, bmp, webp."]);
    }
  });

  test("an image is 64 to 5000 pixels a side and at most 10 MB, by its header alone", async () => {
    const sized = (width: number, height: number): Promise<Buffer> =>
      sharp({ create: { width, height, channels: 3, background: "red" } })
        .png()
        .toBuffer();
    for (const [width, height] of [
      [63, 100],
      [100, 63],
      [5_001, 64],
      [64, 5_001],
    ] as const) {
      const answer = await api.post("img2img", formOf(SNOW, await sized(width, height)));
      assert.equal(answer.status, 422);
      assert.deepEqual(answer.body.errors["image"], [
        `The image field must be 64 to 5000 pixels wide and high; it is ${width} x ${height}.`,
      ]);
    }
    await api.submit("img2img", formOf({ ...SNOW, width: "64", height: "64" }, await sized(5_000, 64)));
    const padded = (sizeBytes: number): Buffer => Buffer.concat([PNG, Buffer.alloc(sizeBytes - PNG.length)]);
    await api.submit("img2img", formOf(SNOW, padded(10 * MIB)));
    const large = await api.post("img2img", formOf(SNOW, padded(10 * MIB + 1)));
    assert.deepEqual([large.status, large.body.errors], [422, { image: ["The image field must not be greater than 10 MB."] }]);
    const cut = await api.post("img2img", formOf(SNOW, PNG.subarray(0, 20)));
    assert.deepEqual(cut.body.errors, { image: ["The image field is a damaged image."] });
  });

  test("a request is at most 75 MB, told in advance or not, and what was stored on the way goes", async () => {
    const told = await api.post("img2img", formOf(SNOW, Buffer.alloc(76 * MIB)));
    assert.deepEqual([told.status, told.body], [413, { message: "The request is larger than 75 MB." }]);
    for (let tries = 0; tries < 5; tries += 1) {
      const json = await api.post("txt2img", { ...SNOW, prompt: "x".repeat(12 * MIB) });
      assert.deepEqual(
        [json.status, json.body],
        [413, { message: "The request without its files is larger than 4 MB." }],
        "the answer comes through, however much is sent",
      );
    }
    const { sent, answer } = openForm();
    sent.on("error", () => undefined);
    const chunk = Buffer.alloc(MIB);
    void (async () => {
      for (let part = 0; part < 2 && !sent.destroyed; part += 1) {
        sent.write(file);
        for (let count = 0; count < 40 && !sent.destroyed; count += 1) {
          if (!sent.write(chunk)) await once(sent, "drain");
        }
        sent.write("\r\n");
      }
    })().catch(() => undefined);
    assert.deepEqual(await answer, { status: 413, body: { message: "The request is larger than 75 MB." } });
    sent.destroy();
    await noUploadsLeft();
  });

  test("the fields of a form are held in memory, and so they are few", async () => {
    const { sent, answer } = openForm();
    sent.on("error", () => undefined);
    for (let count = 0; count < 5; count += 1) sent.write(field(`f${count}`, "x".repeat(MIB)));
    assert.deepEqual(await answer, { status: 413, body: { message: "The fields of the form are too large." } });
    sent.destroy();
    const many = await api.post("img2img", formOf(Object.fromEntries(Array.from({ length: 2_200 }, (_, index) => [`f${index}`, "1"]))));
    assert.equal(many.status, 413, JSON.stringify(many.body).slice(0, 400));
  });

  test("a client that leaves in the middle of an upload leaves nothing behind", async () => {
    const { sent, answer } = openForm();
    answer.catch(() => undefined);
    sent.on("error", () => undefined);
    sent.write(`${field("model", MODEL)}${file}`);
    sent.write(PNG);
    await system.until("the beginning of the upload", async () => ((await readdir(uploads)).length > 0 ? true : undefined));
    sent.destroy();
    await noUploadsLeft();
    assert.equal((await api.get("/healthz")).status, 200);
  });

  test("every wrong field is named at once: those of the form, its files and its webhook", async () => {
    const stored = await system.objects("inputs");
    const answer = await api.post(
      "img2img",
      formOf({ model: MODEL, steps: "999", webhook_url: "http://x.example/" }, Buffer.from("no picture")),
    );
    assert.equal(answer.status, 422);
    assert.deepEqual(Object.keys(answer.body.errors).toSorted(), ["image", "prompt", "steps", "webhook_url"]);
    assert.equal(answer.body.message, `${Object.values(answer.body.errors)[0]?.[0]} (and 3 more errors)`);
    assert.deepEqual(await system.objects("inputs"), stored, "a refusal leaves nothing behind");
  });

  test("an empty body has no fields, whatever it says it is; plain text is refused", async () => {
    for (const type of ["application/json", "application/x-www-form-urlencoded"]) {
      const answer = await api.post("txt2img", "", { "Content-Type": type });
      assert.deepEqual([answer.status, answer.body.message], [422, "The model field is required."], type);
    }
    const text = await api.post("txt2img", JSON.stringify(SNOW), { "Content-Type": "text/plain" });
    const types = "application/json, application/x-www-form-urlencoded, multipart/form-data";
    assert.equal(text.status, 415);
    assert.match(text.body.message, /Content-Type is not supported: send application\/json, .* or multipart\/form-data\./);
    assert.deepEqual([text.headers.get("accept"), text.headers.get("accept-post")], [types, types]);
    const poison = await api.post("txt2img", '{"__proto__":{"model":"x"}}', { "Content-Type": "application/json" });
    assert.equal(poison.status, 400);
    const cut = await api.post("txt2img", "--B\r\nContent-Disposition: form-data; na", {
      "Content-Type": "multipart/form-data; boundary=B",
    });
    assert.equal(cut.status, 400);
  });

  test("a browser may call from any page, and may read the rate limit", async () => {
    const preflight = await fetch(`${gateway.url}/api/v1/client/txt2img`, {
      method: "OPTIONS",
      headers: {
        Origin: "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key",
      },
    });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers.get("access-control-allow-headers"), "authorization,idempotency-key");
    const { headers } = await api.send("GET", "/api/v1/client/balance", undefined, { Origin: "https://app.example" });
    assert.match(headers.get("access-control-expose-headers") ?? "", /Retry-After.*X-RateLimit-Type/);
  });

  describe("Idempotency-Key", () => {
    const FOX = { model: MODEL, prompt: "a fox", width: 64, height: 64 };
    const withKey = (): Readonly<Record<string, string>> => ({ "Idempotency-Key": randomUUID() });

    test("what means the same is the same request, however it is spelled", async () => {
      const headers = withKey();
      const id = await api.submit("txt2img", FOX, headers);
      for (const same of [
        { ...FOX, seed: -1, negative_prompt: null, webhook_url: "" },
        { ...FOX, width: "64", steps: "4" },
        new URLSearchParams({ ...FOX, width: "64.0", height: "64" }),
        formOf({ ...FOX, width: "64", height: "64" }),
      ])
        assert.equal(await api.submit("txt2img", same, headers), id);
      for (const other of [
        { ...FOX, seed: 1 },
        { ...FOX, prompt: "A fox" },
        { ...FOX, model: "tiny-flux-dev" },
      ])
        assert.equal((await api.post("txt2img", other, headers)).status, 422);
      const images = withKey();
      const form = formOf(SNOW);
      form.append("images[]", new Blob([PNG]), "other-name.png");
      assert.equal(await api.submit("img2img", form, images), await api.submit("img2img", formOf(SNOW, PNG), images));
      const otherPicture = await sharp(PNG).negate().png().toBuffer();
      assert.equal((await api.post("img2img", formOf(SNOW, otherPicture), images)).status, 422);
    });

    test("one whose gateway died before the record is submitted by the repetition, under the same id", async () => {
      const headers = withKey();
      const id = await api.submit("img2img", formOf(SNOW, PNG), headers);
      // What a crash right after the claim leaves.
      await system.client.del(system.keys.request(id));
      await system.queues.removeQueued(MODEL, id);
      assert.equal(await api.submit("img2img", formOf(SNOW, PNG), headers), id);
      assert.equal((await api.status(id))["status"], "pending");
      assert.equal(await system.state(MODEL, id), "waiting");
    });

    test("many at the same time, at two gateways, are one request and one job", async () => {
      await using second = await startGateway(system);
      const elsewhere = new ApiClient(second.url, key);
      const headers = withKey();
      const before = (await system.queues.peek([MODEL]))[0]?.waiting ?? 0;
      const ids = await Promise.all(
        Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? api : elsewhere).submit("img2img", formOf(SNOW, PNG), headers)),
      );
      assert.equal(new Set(ids).size, 1);
      assert.equal((await system.queues.peek([MODEL]))[0]?.waiting, before + 1);
      assert.deepEqual(await system.objects(`inputs/${ids[0]}`), ["0.png"]);
      assert.equal((await elsewhere.status(ids[0] ?? ""))["status"], "pending", "each gateway knows it");
    });
  });

  test("SIGTERM lets an upload end that has begun, and takes no other", async () => {
    const other = await startGateway(system, { TMPDIR: uploads });
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": "multipart/form-data; boundary=B" };
    const sent = httpRequest(`${other.url}/api/v1/client/img2img`, { method: "POST", headers });
    const answer = once(sent, "response", { signal: AbortSignal.timeout(WAIT_MS) });
    sent.write(`${field("model", MODEL)}${field("prompt", "snow")}${file}`);
    sent.write(PNG.subarray(0, 1_000));
    await system.until("the beginning of the upload", async () => ((await readdir(uploads)).length > 0 ? true : undefined));
    const code = other.stop();
    await system.until("the end of the listener", async () =>
      fetch(`${other.url}/healthz`).then(
        ({ status }) => (status === 503 ? true : undefined),
        () => true,
      ),
    );
    sent.end(Buffer.concat([PNG.subarray(1_000), Buffer.from("\r\n--B--\r\n")]));
    const [response] = (await answer) as [IncomingMessage];
    assert.equal(response.statusCode, 200);
    assert.equal(response.headers.connection, "close");
    response.resume();
    assert.equal(await code, 0);
  });
});
