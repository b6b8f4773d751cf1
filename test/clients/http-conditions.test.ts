import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const PICTURE = { model: "tiny-flux-schnell", prompt: "a red fox", width: 64, height: 64, steps: 1 };
const FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"];

type Seen = Readonly<Record<string, readonly unknown[]>>;

/** A page of another origin, as its script sees the API: what a browser lets it send, and read. */
const PAGE = `async ([base, key, link]) => {
  const headersOf = (answer, ...names) => names.map((name) => answer.headers.get(name));
  const auth = { Authorization: "Bearer " + key };
  const submit = await fetch(base + "/api/v1/client/txt2img", {
    method: "POST",
    headers: { ...auth, "Content-Type": "application/json", "Idempotency-Key": "from-a-page" },
    body: JSON.stringify(${JSON.stringify(PICTURE)}),
  });
  const part = await fetch(link, { headers: { Range: "bytes=0-9", "If-Match": "*", "If-Unmodified-Since": new Date().toUTCString() } });
  const bytes = (await part.arrayBuffer()).byteLength;
  const [etag] = headersOf(part, "ETag");
  const same = await fetch(link, { headers: { "If-None-Match": etag }, cache: "no-store" });
  const gone = await fetch(base + "/api/v1/client/models", { method: "DELETE", headers: auth });
  const nobody = await fetch(base + "/api/v1/client/balance", { headers: { Authorization: "Bearer x" } });
  return {
    submit: [submit.status, ...headersOf(submit, "X-RateLimit-Limit", "X-RateLimit-Type", "X-Request-Id")],
    part: [part.status, bytes, ...headersOf(part, "Content-Range", "Accept-Ranges", "Content-Length")],
    same: [same.status],
    gone: [gone.status, ...headersOf(gone, "Allow")],
    nobody: [nobody.status, (await nobody.json()).message, ...headersOf(nobody, "WWW-Authenticate")],
  };
}`;

/** A real result of a real worker, asked for by clients that nobody here wrote. */
describe("HTTP as its clients speak it", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let key: string;
  let link: string;

  before(async () => {
    system = await startSystem();
    await system.startWorker();
    gateway = await startGateway(system);
    key = await addClient(system, { ratePerMinute: 100 });
    const api = new ApiClient(gateway.url, key);
    link = String((await endOf(system, api, await api.submit("txt2img", PICTURE)))["result_url"]);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  test("httpx: conditions, ranges, HEAD, resumed downloads and compressed answers", async () => {
    const script = join(import.meta.dirname, "http_conditions.py");
    const seen = JSON.parse(await runPythonClient("python", [script, link, gateway.url, key])) as Readonly<Record<string, unknown>>;
    assert.ok(Number(seen["size"]) > 64);
    assert.match(String(seen["etag"]), /^"[0-9a-f]{32}"$/);
  });

  test("Chromium: a page of another origin may send what it needs and read what it is told", async () => {
    const server = createServer((_request, response) =>
      response.setHeader("Content-Type", "text/html").end("<!doctype html><title>x</title>"),
    );
    await once(server.listen(0, "127.0.0.1"), "listening");
    await using browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS, timeout: WAIT_MS });
    try {
      const page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`);
      const script = `(${PAGE})(${JSON.stringify([gateway.url, key, link])})`;
      const { submit, part, same, gone, nobody } = await page.evaluate<Seen>(script);
      assert.deepEqual(submit?.slice(0, 3), [200, "100", "minute"]);
      assert.match(String(submit?.[3]), /^[0-9a-f-]{36}$/);
      assert.deepEqual([part?.[0], part?.[1], part?.[3], part?.[4]], [206, 10, "bytes", "10"]);
      assert.match(String(part?.[2]), /^bytes 0-9\/\d+$/);
      assert.deepEqual(same, [304]);
      assert.deepEqual(gone, [405, "GET, HEAD, OPTIONS"]);
      assert.equal(nobody?.[0], 401);
      assert.match(String(nobody?.[2]), /invalid_token/);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});
