import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import sharp from "sharp";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem, type TestSystem } from "../support/system.ts";
import { wavOf } from "../support/whisper-audio.ts";

const PICTURE = new URL("init-128.png", FLUX_FIXTURES).pathname;
const run = promisify(execFile);

interface PythonAnswer {
  readonly status: number;
  readonly body: { readonly data?: Readonly<Record<string, unknown>>; readonly errors?: Readonly<Record<string, readonly string[]>> };
}

/** No worker runs: requests stay where the tests look at them. */
describe("fields as real clients send them", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let api: ApiClient;
  let key: string;
  let uploads: string;
  let sound: string;

  before(async () => {
    system = await startSystem();
    uploads = join(system.dir, "uploads");
    await mkdir(uploads);
    sound = join(system.dir, "sound.wav");
    await writeFile(sound, wavOf(new Int16Array(16_000)));
    gateway = await startGateway(system, { TMPDIR: uploads, DRYAPI_MODELS: "tiny-flux-schnell,tiny-whisper,tiny-kokoro" });
    key = await addClient(system, { ratePerMinute: 0 });
    api = new ApiClient(gateway.url, key);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });
  const env = (): Record<string, string> => ({ DRYAPI_URL: gateway.url, DRYAPI_KEY: key, PICTURE, SOUND: sound });
  const noUploadsLeft = (): Promise<true> =>
    system.until("no upload left over", async () => ((await readdir(uploads)).length === 0 ? true : undefined));

  test("a POST without a body is taken, whatever type aiohttp, httpx, curl and fetch claim for it", async () => {
    const request = await api.submit("txt2img", { model: "tiny-flux-schnell", prompt: "fox", width: 64, height: 64 });
    const script = join(import.meta.dirname, "empty_bodies.py");
    const answers = JSON.parse(await runPythonClient("python", [script], { ...env(), REQUEST: request })) as Record<string, number>;
    const { "aiohttp cancel": first, "httpx cancel": second, "aiohttp bytes": bytes, ...submits } = answers;
    assert.deepEqual([first, second, bytes], [200, 409, 415]);
    assert.ok(Object.keys(submits).length >= 18);
    for (const [name, status] of Object.entries(submits)) assert.equal(status, 422, name);
    const url = `${gateway.url}/api/v1/client/txt2img`;
    for (const type of ["text/plain", "image/png", "multipart/form-data", "nonsense", "application/json; charset=x"]) {
      for (const more of [[], ["-H", "Transfer-Encoding: chunked"]]) {
        const curl = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", `Authorization: Bearer ${key}`, "-H", `Content-Type: ${type}`];
        assert.equal((await run("curl", [...curl, "-d", "", ...more, url])).stdout, "422", `${type} ${more.join(" ")}`);
      }
      assert.equal((await api.post("txt2img", "", { "Content-Type": type })).status, 422, type);
    }
    assert.equal((await api.post("txt2img", "x", { "Content-Type": "application/octet-stream" })).status, 415);
  });

  test("prices and data URIs are taken as httpx and aiohttp send them, and what is wrong says what to send", async () => {
    const script = join(import.meta.dirname, "fields.py");
    const answers = JSON.parse(await runPythonClient("python", [script], env())) as Record<string, PythonAnswer>;
    const of = (name: string): PythonAnswer => answers[name] ?? assert.fail(name);
    for (const name of Object.keys(answers)
      .filter((each) => each.includes("price"))
      .filter((each) => !each.includes("wrong") && !each.includes("unknown")))
      assert.deepEqual([of(name).status, of(name).body.data], [200, { price: 0 }], `${name}: ${JSON.stringify(of(name).body)}`);
    const errors = (name: string): string => {
      assert.equal(of(name).status, 422, `${name}: ${JSON.stringify(of(name).body)}`);
      return JSON.stringify(of(name).body.errors);
    };
    assert.match(errors("price with a wrong file"), /"audio".*must be a file of type: mp3/);
    assert.match(errors("price with a wrong length"), /"duration_seconds".*at least 0/);
    assert.match(errors("price with what is unknown"), /"colour".*is not known to audiofile2txt/);
    for (const name of ["data URI", "list of data URIs", "form with a data URI", "sound", "transcribe", "aiohttp data URI"])
      assert.equal(of(name).status, 200, `${name}: ${JSON.stringify(of(name).body)}`);
    assert.match(errors("bare base64"), /must be a file: send it as multipart\/form-data, or in JSON as a data URI/);
    assert.match(errors("an address"), /links are not fetched for it/);
    assert.match(errors("a number"), /must be a file/);
    assert.match(errors("a data URI that is no picture"), /must be a file of type: jpg, png/);
    assert.match(
      errors("a video URI on audio"),
      /"video".*is no file that audiofile2txt takes with the model tiny-whisper; it takes audio/,
    );
    assert.deepEqual(of("MCP").body.data?.["ignored_fields"], ["guidance_scale"]);
    assert.match(errors("PHP's loras"), /"loras".*has no LoRAs/);
    const id = String(of("data URI").body.data?.["request_id"]);
    const stored = await system.requests.get(id);
    assert.deepEqual(await system.objects(`inputs/${id}`), ["0.png"]);
    assert.equal(stored?.inputs[0]?.sizeBytes, (await readFile(PICTURE)).length);
    await noUploadsLeft();
  });

  test("a data URI is the same request as the upload of the same bytes", async () => {
    const headers = { "Idempotency-Key": randomUUID() };
    const fields = { model: "tiny-flux-schnell", prompt: "snow", steps: "2", seed: "1" };
    const bytes = await readFile(PICTURE);
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("image", new Blob([bytes]), "fox.png");
    const id = await api.submit("img2img", form, headers);
    const uri = `data:;base64,${bytes.toString("base64")}`;
    const percent = `data:image/png,${[...bytes].map((byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")}`;
    for (const image of [uri, percent, [uri]]) assert.equal(await api.submit("img2img", { ...fields, image }, headers), id);
    assert.equal(await api.submit("img2img", { ...fields, "images[]": [uri] }, headers), id);
    assert.equal(await api.submit("img2img", new URLSearchParams({ ...fields, image: uri }), headers), id);
    // What a form does with a plus that nobody encoded.
    const plain = `${new URLSearchParams(fields).toString()}&image=${uri.replaceAll("=", "%3D")}`;
    assert.equal(await api.submit("img2img", plain, { ...headers, "Content-Type": "application/x-www-form-urlencoded" }), id);
    const other = await api.post(
      "img2img",
      { ...fields, image: `data:;base64,${(await sharp(bytes).rotate(90).png().toBuffer()).toString("base64")}` },
      headers,
    );
    assert.equal(other.status, 422);
  });

  test("a picture of 10 MB fits into JSON, told in advance or chunked, with PHP's slashes, and one beyond its limit is named", async () => {
    const noise = await sharp(randomBytes(1_800 * 1_800 * 3), { raw: { width: 1_800, height: 1_800, channels: 3 } })
      .png({ compressionLevel: 0 })
      .toBuffer();
    assert.ok(noise.length > 9.2 * 1024 * 1024 && noise.length < 10 * 1024 * 1024, String(noise.length));
    const bodyOf = (bytes: Buffer): string =>
      JSON.stringify({ model: "tiny-flux-schnell", prompt: "grain", image: `data:image/png;base64,${bytes.toString("base64")}`, steps: 2 });
    const path = join(system.dir, "body.json");
    await writeFile(path, bodyOf(noise).replaceAll("/", "\\/"));
    const curl = ["-sS", "-H", `Authorization: Bearer ${key}`, "-H", "Content-Type: application/json", "--data-binary", `@${path}`];
    const url = `${gateway.url}/api/v1/client/img2img`;
    for (const more of [[], ["-H", "Transfer-Encoding: chunked"]]) {
      const { stdout } = await run("curl", [...curl, ...more, url]);
      const { data } = JSON.parse(stdout) as { data: { request_id: string } };
      const record = await system.requests.get(data.request_id);
      assert.deepEqual([record?.inputs[0]?.sizeBytes, record?.params["width"]], [noise.length, 512]);
    }
    const large = await api.post("img2img", bodyOf(Buffer.concat([noise, Buffer.alloc(1024 * 1024)])), {
      "Content-Type": "application/json",
    });
    assert.deepEqual([large.status, large.body.errors], [422, { image: ["The image field must not be greater than 10 MB."] }]);
    const cut = await api.post("img2img", bodyOf(noise).slice(0, -40), { "Content-Type": "application/json" });
    assert.equal(cut.status, 400);
    const settings = await api.send("PUT", "/api/v1/client/settings/webhook", { url: "x".repeat(5 * 1024 * 1024) });
    assert.equal(settings.status, 413, "elsewhere JSON holds no files");
    await noUploadsLeft();
  });
});
