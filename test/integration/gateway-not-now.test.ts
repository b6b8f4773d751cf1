import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test, type TestContext } from "node:test";
import { promisify } from "node:util";
import sharp from "sharp";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, ApiClient, startGateway, type Answer, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const run = promisify(execFile);
const MODEL = "tiny-flux-schnell";
const SNOW = { model: MODEL, prompt: "snow", width: 64, height: 64, steps: 1 };
const PNG = await readFile(new URL("init-128.png", FLUX_FIXTURES));

/** What is the machine's trouble is 503 with `Retry-After`, leaves nothing behind, and is told to the operator once. No worker runs. */
describe("not now", () => {
  let system: TestSystem;
  let key: string;

  before(async () => {
    system = await startSystem({ DRYAPI_RATE_PER_MINUTE: "0", DRYAPI_RATE_PER_DAY: "0" });
    key = await addClient(system, { ratePerMinute: 0, ratePerDay: 0 });
  });
  after(() => system[Symbol.asyncDispose]());

  const formOf = (image: Uint8Array): FormData => {
    const form = new FormData();
    for (const [name, value] of Object.entries({ model: MODEL, prompt: "snow" })) form.append(name, value);
    form.append("image", new Blob([Buffer.from(image)]), "a.png");
    return form;
  };
  function assertNotNow(answer: Answer, words: RegExp): void {
    assert.equal(answer.status, 503, JSON.stringify(answer.body));
    assert.deepEqual(Object.keys(answer.body), ["message"]);
    assert.match(answer.body.message, words);
    assert.match(answer.headers.get("retry-after") ?? "", /^(?:5|30)$/);
    assert.match(answer.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
  }
  const told = ({ lines }: GatewayProcess): readonly Readonly<Record<string, unknown>>[] =>
    lines.filter(({ msg }) => typeof msg === "string" && msg.startsWith("requests cannot be served now"));
  async function assertToldOnce(gateway: GatewayProcess, trouble: string, words: RegExp): Promise<void> {
    await system.until("a line for the operator", async () => (told(gateway).length > 0 ? true : undefined));
    assert.equal(told(gateway).length, 1, "told once, however many were refused");
    assert.equal(told(gateway)[0]?.["trouble"], trouble);
    assert.match(JSON.stringify(told(gateway)[0]?.["err"]), words);
  }
  /** Nothing of a refused request may be anywhere. */
  async function nothingLeft(inputs: readonly string[]): Promise<void> {
    assert.deepEqual(await system.objects("inputs"), inputs);
    assert.deepEqual(await system.index.unqueued(Number.MAX_SAFE_INTEGER, 10), []);
    assert.deepEqual((await system.index.page("tester", { cursor: null, limit: 50 })).ids, []);
    assert.equal((await system.queues.peek([MODEL]))[0]?.waiting ?? 0, 0);
  }

  test("a Redis at maxmemory: submits are refused whole, what only reads goes on", async () => {
    await using gateway = await startGateway(system);
    const api = new ApiClient(gateway.url, key);
    const id = await api.submit("txt2img", SNOW);
    await system.queues.removeQueued(MODEL, id);
    await system.client.del(system.keys.request(id), system.keys.index("tester"));
    await system.client.config("SET", "maxmemory", "1");
    try {
      for (const body of [SNOW, new URLSearchParams({ ...SNOW, width: "64", height: "64", steps: "1" })])
        assertNotNow(await api.post("txt2img", body), /^The queue takes no requests now\. Please try again later\.$/);
      assertNotNow(await api.post("img2img", formOf(PNG)), /queue/);
      assertNotNow(await api.post("txt2img", SNOW, { "Idempotency-Key": "at-maxmemory" }), /queue/);
      const secret = await api.send("PUT", "/api/v1/client/settings/webhook", { url: "https://example.com/" });
      assertNotNow(secret, /queue/);
      for (const path of ["models", "balance", "requests", "settings/webhook"])
        assert.equal((await api.get(`/api/v1/client/${path}`)).status, 200, path);
      await nothingLeft([]);
      await assertToldOnce(gateway, "queue", /out of memory \(maxmemory\).*raise maxmemory/);
    } finally {
      await system.client.config("SET", "maxmemory", "0");
    }
    assert.equal((await api.post("txt2img", SNOW, { "Idempotency-Key": "at-maxmemory" })).status, 200, "the key was kept free");
  });

  test("a Redis that became a replica, or is busy with a script, is 503 until it is over", async () => {
    await using gateway = await startGateway(system);
    const api = new ApiClient(gateway.url, key);
    const accepted = (): Promise<true> =>
      system.until("an accepted request", async () => ((await api.post("txt2img", SNOW)).status === 200 ? true : undefined));
    await system.client.replicaof("127.0.0.1", "1");
    try {
      for (let count = 0; count < 3; count += 1)
        assertNotNow(await api.post("txt2img", SNOW), /^The queue does not answer now\. Please try again\.$/);
    } finally {
      await system.client.replicaof("NO", "ONE");
    }
    await accepted();
    await system.client.config("SET", "busy-reply-threshold", "1");
    const other = connectRedis({ url: system.redis.url, role: "blocking" });
    const busy = other.eval("while true do end", 0).catch(String);
    try {
      await system.until("a busy Redis", async () =>
        system.client.ping().then(
          () => undefined,
          (thrown) => (/BUSY/.test(String(thrown)) ? true : undefined),
        ),
      );
      assertNotNow(await api.post("txt2img", SNOW), /queue/);
      assertNotNow(await api.get("/api/v1/client/requests"), /queue/);
    } finally {
      await system.client.call("SCRIPT", "KILL");
      other.disconnect();
    }
    assert.match(String(await busy), /killed|closed/i);
    await accepted();
  });

  test("no folder for temporary files: uploads are refused, everything else goes on", async () => {
    const folder = join(system.dir, "nowhere");
    await mkdir(folder);
    await using gateway = await startGateway(system, { TMPDIR: folder });
    // A gateway that starts without one ends at once: see start-matrix.test.ts.
    await rm(folder, { recursive: true });
    const api = new ApiClient(gateway.url, key);
    for (let count = 0; count < 3; count += 1)
      assertNotNow(await api.post("img2img", formOf(PNG)), /^Files cannot be taken in now\. Please try again later\.$/);
    assert.equal((await api.post("txt2img", SNOW)).status, 200);
    await assertToldOnce(gateway, "disk", /ENOENT.*nowhere/);
    await mkdir(folder);
    assert.equal((await api.post("img2img", formOf(PNG))).status, 200, "without a restart");
  });

  /** A gateway in a mount namespace of its own; null where nobody may have one. */
  async function mounted(
    t: TestContext,
    mounts: string,
    folder: string,
    env: Readonly<Record<string, string>>,
  ): Promise<GatewayProcess | null> {
    const within = ["unshare", "-rm", "sh", "-c", `folder="$1"; shift; ${mounts} && exec "$@"`, "sh", folder];
    try {
      await run(within[0] ?? "", [...within.slice(1), "true"]);
    } catch (thrown) {
      t.skip(`this machine lets nobody mount in a namespace: ${String(thrown)}`);
      return null;
    }
    return startGateway(system, env, undefined, within);
  }

  test("a folder for temporary files that is full: uploads are refused and leave nothing", async (t) => {
    const folder = join(system.dir, "tiny");
    await mkdir(folder);
    const gateway = await mounted(t, 'mount -t tmpfs -o size=64k tmpfs "$folder"', folder, { TMPDIR: folder });
    if (gateway === null) return;
    await using _ = gateway;
    const api = new ApiClient(gateway.url, key);
    const noise = await sharp({
      create: { width: 400, height: 400, channels: 3, background: "red", noise: { type: "gaussian", mean: 128, sigma: 60 } },
    })
      .png()
      .toBuffer();
    assert.ok(noise.length > 65_536);
    for (let count = 0; count < 3; count += 1) assertNotNow(await api.post("img2img", formOf(noise)), /^Files cannot be taken in now/);
    assert.equal((await api.post("img2img", formOf(PNG))).status, 200, "what fits is taken: nothing was left of those that did not");
    await assertToldOnce(gateway, "disk", /ENOSPC/);
    assert.deepEqual(await readdir(folder), [], "it is the gateway's own");
  });

  test("an object store that is read-only", async (t) => {
    const folder = join(system.dir, "objects");
    await mkdir(folder, { recursive: true });
    const gateway = await mounted(t, 'mount --bind "$folder" "$folder"', folder, {});
    if (gateway === null) return;
    await using _ = gateway;
    // A gateway that starts with one ends at once: see start-matrix.test.ts.
    const inside = ["-t", String(gateway.pid), "-U", "-m", "--preserve-credentials"];
    await run("nsenter", [...inside, "mount", "-o", "remount,bind,ro", folder]);
    const api = new ApiClient(gateway.url, key);
    const before = await system.objects("inputs");
    for (let count = 0; count < 3; count += 1)
      assertNotNow(await api.post("img2img", formOf(PNG)), /^The object store cannot be used now\. Please try again later\.$/);
    assert.equal((await api.post("txt2img", SNOW)).status, 200, "what needs no store is accepted");
    assert.deepEqual(await system.objects("inputs"), before);
    await assertToldOnce(gateway, "store", /EROFS/);
  });

  test("an S3 that is away", async () => {
    const closed = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => closed.once("listening", resolve));
    const { port } = closed.address() as AddressInfo;
    await new Promise((resolve) => closed.close(resolve));
    await using gateway = await startGateway(system, {
      DRYAPI_STORE: `s3://bucket?endpoint=http://127.0.0.1:${port}&region=us-east-1`,
      AWS_ACCESS_KEY_ID: "key",
      AWS_SECRET_ACCESS_KEY: "secret",
    });
    const api = new ApiClient(gateway.url, key);
    assertNotNow(await api.post("img2img", formOf(PNG)), /^The object store does not answer now\. Please try again\.$/);
    assert.equal((await api.post("txt2img", SNOW)).status, 200);
    await assertToldOnce(gateway, "store", /ECONNREFUSED/);
  });
});
