import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { request as undiciRequest } from "undici";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { startSystem, WAIT_MS, type TestSystem } from "../support/system.ts";

const run = promisify(execFile);
const SNOW = { model: "tiny-flux-schnell", prompt: "snow", width: 64, height: 64, steps: 1 };
const TASKS = "/api/v1/client/txt2img";

interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** HTTP to the letter of RFC 9110 and 9112: curl, undici, fetch and bytes that no client sends. No worker runs. */
describe("HTTP", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let key: string;
  let api: ApiClient;
  let port: number;

  before(async () => {
    system = await startSystem();
    gateway = await startGateway(system);
    key = await addClient(system, { ratePerMinute: 0 });
    api = new ApiClient(gateway.url, key);
    port = Number(new URL(gateway.url).port);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  /** What a server answers to bytes, until it closes. */
  async function raw(bytes: string | Buffer): Promise<RawAnswer> {
    const socket = connect(port, "127.0.0.1");
    const timer = setTimeout(() => socket.destroy(new Error("no answer")), WAIT_MS);
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.write(bytes);
    await once(socket, "close");
    clearTimeout(timer);
    return parse(Buffer.concat(chunks).toString());
  }

  /** As curl sends it and reads the answer. */
  async function curl(...args: readonly string[]): Promise<RawAnswer> {
    const { stdout } = await run("curl", ["-sS", "-i", "--http1.1", "--max-time", "100", ...args], { encoding: "buffer" });
    return parse(stdout.toString());
  }

  function parse(text: string): RawAnswer {
    const rest = text.replace(/^HTTP\/1.1 100 Continue\r\n\r\n/, "");
    const end = rest.indexOf("\r\n\r\n");
    const [line = "", ...fields] = rest.slice(0, end).split("\r\n");
    const headers = fields.map((field): [string, string] => [
      field.slice(0, field.indexOf(":")).toLowerCase(),
      field.slice(field.indexOf(":") + 1).trim(),
    ]);
    return { status: Number(line.split(" ")[1]), headers: Object.fromEntries(headers), body: rest.slice(end + 4) };
  }

  /** The shape that every error has, whoever noticed it. */
  function assertShape({ headers, body }: RawAnswer, what: string): void {
    assert.equal(headers["content-type"], "application/json; charset=utf-8", what);
    assert.equal(Number(headers["content-length"]), Buffer.byteLength(body), what);
    const { message, ...more } = JSON.parse(body) as { message: unknown };
    assert.ok(typeof message === "string" && /^[A-Z].*\.$/.test(message), `${what}: ${body}`);
    assert.ok(
      Object.keys(more).every((name) => name === "errors"),
      `${what}: ${body}`,
    );
    assert.match(headers["x-request-id"] ?? "", /^[0-9a-f-]{36}$/, what);
    assert.equal(headers["x-content-type-options"], "nosniff", what);
    assert.equal(headers["access-control-allow-origin"], "*", what);
    assert.match(headers["access-control-expose-headers"] ?? "", /X-Request-Id/, what);
  }

  test("a method that an address does not have is 405 with those that it has; an address that is none is 404", async () => {
    const auth = ["-H", `Authorization: Bearer ${key}`];
    const id = randomUUID();
    for (const [path, allow, methods] of [
      [TASKS, "POST, OPTIONS", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "QUERY", "PURGE"]],
      [`${TASKS}/`, "POST, OPTIONS", ["GET"]],
      ["/api/v1/client/txt2im%67", "POST, OPTIONS", ["GET"]],
      [`${TASKS}?a=b`, "POST, OPTIONS", ["GET"]],
      [`${TASKS}/price-calculation`, "POST, OPTIONS", ["GET"]],
      ["/api/v1/client/models", "GET, HEAD, OPTIONS", ["POST", "PUT", "DELETE"]],
      [`/api/v1/client/request-status/${id}`, "GET, HEAD, OPTIONS", ["POST", "DELETE", "PROPFIND"]],
      [`/api/v1/client/requests/${id}/cancel`, "POST, OPTIONS", ["GET", "PUT"]],
      ["/broadcasting/auth", "POST, OPTIONS", ["GET"]],
      ["/r/a/b.png", "GET, HEAD, OPTIONS", ["POST", "DELETE"]],
      ["/", "GET, HEAD, OPTIONS", ["POST", "TRACE"]],
      ["/console/app.js", "GET, HEAD, OPTIONS", ["POST", "QUERY"]],
      ["/openapi.json", "GET, HEAD, OPTIONS", ["PUT"]],
      ["/healthz/", "GET, HEAD, OPTIONS", ["DELETE"]],
    ] as const) {
      for (const method of methods) {
        const answer = await curl(...auth, ...(method === "HEAD" ? ["-I"] : ["-X", method]), `${gateway.url}${path}`);
        assert.deepEqual([method, path, answer.status, answer.headers["allow"]], [method, path, 405, allow]);
        if (method !== "HEAD") assertShape(answer, `${method} ${path}`);
      }
    }
    for (const path of [
      "/nowhere",
      "/api/v1/client/nothing",
      "/api/v1/client/nothing/price-calculation",
      "/console/",
      "/r/a",
      "//x",
      "/console/../app",
    ]) {
      for (const method of ["GET", "POST", "DELETE", "PROPFIND"]) {
        const answer = await curl(
          "--path-as-is",
          ...auth,
          "-X",
          method,
          "-d",
          "{",
          "-H",
          "Content-Type: application/json",
          `${gateway.url}${path}`,
        );
        assert.deepEqual([method, path, answer.status, answer.headers["allow"]], [method, path, 404, undefined]);
        assertShape(answer, `${method} ${path}`);
      }
    }
  });

  test("OPTIONS says what an address has; a preflight is answered for whatever a page wants to send", async () => {
    const plain = await curl("-X", "OPTIONS", `${gateway.url}${TASKS}`);
    assert.deepEqual([plain.status, plain.headers["allow"], plain.body], [204, "POST, OPTIONS", ""]);
    assert.equal((await curl("-X", "OPTIONS", `${gateway.url}/nowhere`)).status, 404);
    const star = await raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert.deepEqual([star.status, star.headers["allow"]], [204, "GET, HEAD, POST, PUT, DELETE, OPTIONS"]);
    const wanted = "authorization,idempotency-key,range,if-none-match,if-range,if-match,content-type";
    const fields = ["Origin: https://app.example", "Access-Control-Request-Method: DELETE", `Access-Control-Request-Headers: ${wanted}`];
    const preflight = await curl("-X", "OPTIONS", ...fields.flatMap((field) => ["-H", field]), `${gateway.url}${TASKS}`);
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers["access-control-allow-headers"], wanted);
    assert.match(preflight.headers["access-control-allow-methods"] ?? "", /DELETE/);
    assert.equal(preflight.headers["vary"], "Access-Control-Request-Headers");
  });

  test("401 says how to authenticate, and of a key that it is no good", async () => {
    const url = `${gateway.url}/api/v1/client/balance`;
    const none = await curl(url);
    assert.deepEqual([none.status, none.headers["www-authenticate"]], [401, 'Bearer realm="dryapi"']);
    assertShape(none, "no key");
    const basic = await curl("-u", "a:b", url);
    assert.equal(basic.headers["www-authenticate"], 'Bearer realm="dryapi"');
    for (const [path, method] of [
      ["/api/v1/client/balance", "GET"],
      ["/broadcasting/auth", "POST"],
      ["/api/v1/client/nothing", "GET"],
      [TASKS, "GET"],
    ] as const) {
      const wrong = await curl("-X", method, "-H", "Authorization: Bearer tester|aaaaaaaaaaaaaaaaaaaaaaaa", `${gateway.url}${path}`);
      assert.equal(wrong.status, 401, `${path}: nobody learns which routes there are`);
      assert.match(wrong.headers["www-authenticate"] ?? "", /^Bearer realm="dryapi", error="invalid_token", error_description="[^"]+"$/);
      assertShape(wrong, path);
    }
  });

  test("bytes that are no request are answered in the shape of all errors, and the connection ends", async () => {
    const long = "a".repeat(20_000);
    for (const [what, bytes, status] of [
      ["an address that does not end", `GET /${long} HTTP/1.1\r\nHost: x\r\n\r\n`, 414],
      ["an address of 9,000 bytes", `GET /${long.slice(0, 9_000)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`, 414],
      ["a header field that does not end", `GET / HTTP/1.1\r\nHost: x\r\nA: ${long}\r\n\r\n`, 431],
      ["another protocol", "SSH-2.0-OpenSSH_9.6\r\n\r\n", 400],
      ["a TLS hello", Buffer.from("16030100c8010000c40303", "hex"), 400],
      ["a method that nobody has", "BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501],
      ["HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505],
      ["HTTP/3.0 in plain text", "GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505],
      ["no Host", "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400],
      ["two Hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nhOST: a\r\nConnection: close\r\n\r\n", 400],
      ["a Host that is none", "GET /healthz HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n", 400],
      ["two lengths", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400],
      ["a length and chunks", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400],
      ["a header field without a colon", "GET / HTTP/1.1\r\nHost x\r\n\r\n", 400],
      ["a field folded over lines", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400],
      [
        "an expectation that nobody knows",
        "POST / HTTP/1.1\r\nHost: x\r\nExpect: cake\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        417,
      ],
      ["a percent sign without digits", "GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["a path that is no UTF-8", "GET /%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["a query that is no UTF-8", "GET /healthz?a=%C3%28 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["a query with half a character", "GET /healthz?a=%ED%A0%80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["a query with NUL", "GET /healthz?a=%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["a star that asks for something", "GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      ["an address without a path", "GET healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400],
      [
        "a chunk that is none",
        `POST ${TASKS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
        400,
      ],
    ] as const) {
      const answer = await raw(bytes);
      assert.deepEqual([what, answer.status], [what, status]);
      assertShape(answer, what);
      assert.equal(answer.headers["connection"], "close", what);
    }
    const old = await raw("GET /healthz HTTP/1.0\r\n\r\n");
    assert.deepEqual([old.status, old.body], [200, '{"ok":true}'], "HTTP/1.0 knows no Host");
    const absolute = await raw("GET http://other.example/healthz?a=100% HTTP/1.1\r\nHost: other.example:81\r\nConnection: close\r\n\r\n");
    assert.equal(absolute.status, 200);
    const v6 = await raw("GET /healthz HTTP/1.1\r\nHost: [::1]:81\r\nConnection: close\r\n\r\n");
    assert.equal(v6.status, 200);
  });

  test("a body is refused before it is sent where the client waits to be asked for it", async () => {
    const body = JSON.stringify(SNOW);
    const head = (path: string, ...fields: readonly string[]): string =>
      [
        `POST ${path} HTTP/1.1`,
        "Host: x",
        "Expect: 100-continue",
        `Content-Length: ${body.length}`,
        "Connection: close",
        ...fields,
        "",
        "",
      ].join("\r\n");
    for (const [status, bytes] of [
      [401, head(TASKS, "Content-Type: application/json")],
      [404, head("/nowhere", "Content-Type: application/json")],
      [415, head(TASKS, `Authorization: Bearer ${key}`, "Content-Type: application/json", "Content-Encoding: gzip")],
    ] as const) {
      const socket = connect(port, "127.0.0.1");
      socket.write(bytes);
      const [first] = (await once(socket, "data")) as [Buffer];
      assert.match(first.toString(), new RegExp(`^HTTP/1.1 ${status} `), "no 100 Continue");
      socket.destroy();
    }
    const socket = connect(port, "127.0.0.1");
    socket.write(head(TASKS, `Authorization: Bearer ${key}`, "Content-Type: application/json"));
    const [first] = (await once(socket, "data")) as [Buffer];
    assert.equal(first.toString(), "HTTP/1.1 100 Continue\r\n\r\n");
    socket.write(body);
    const [second] = (await once(socket, "data")) as [Buffer];
    assert.match(second.toString(), /^HTTP\/1.1 200 OK\r\n/);
    socket.destroy();
    const big = await curl("-H", `Authorization: Bearer ${key}`, "-H", "Expect: 100-continue", "--json", body, `${gateway.url}${TASKS}`);
    assert.equal(big.status, 200);
  });

  test("a body that comes encoded is 415 with what would be taken; identity is no coding", async () => {
    for (const coding of ["gzip", "br", "deflate, gzip", "x-unknown"]) {
      const answer = await undiciRequest(`${gateway.url}${TASKS}`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": "application/json", "content-encoding": coding },
        body: "\u001F\u008B",
      });
      assert.deepEqual([answer.statusCode, answer.headers["accept-encoding"]], [415, "identity"], coding);
      const { message } = (await answer.body.json()) as { message: string };
      assert.match(message, /without Content-Encoding/);
    }
    assert.equal((await api.post("txt2img", SNOW, { "Content-Encoding": "identity" })).status, 200);
  });

  test("a body whose text is no text is 400, and says where", async () => {
    const post = async (type: string, body: Buffer): Promise<readonly [number, string]> => {
      const answer = await undiciRequest(`${gateway.url}${TASKS}`, {
        method: "POST",
        headers: { authorization: `Bearer ${key}`, "content-type": type },
        body,
      });
      return [answer.statusCode, ((await answer.body.json()) as { message: string }).message];
    };
    const json = "application/json";
    const form = "application/x-www-form-urlencoded";
    const notUtf8 = [400, "The request body is not valid UTF-8."];
    assert.deepEqual(await post(json, Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), notUtf8);
    assert.deepEqual(await post(json, Buffer.from(`{"prompt":"caf\xE9"}`, "latin1")), notUtf8);
    assert.deepEqual(await post(form, Buffer.from("prompt=%ff")), notUtf8);
    assert.deepEqual(await post(form, Buffer.from("prompt=caf\xE9", "latin1")), notUtf8);
    const [status, half] = await post(json, Buffer.from(String.raw`{"model":"x","prompt":"a \ud83d fox"}`));
    assert.equal(status, 400);
    assert.match(half, /the prompt field holds half of a surrogate pair/);
    for (const [type, text] of [
      [json, String.raw`{"prompt":"a\u0000"}`],
      [form, "prompt=a%00"],
    ] as const)
      assert.match((await post(type, Buffer.from(text)))[1], /the prompt field holds a NUL character/);
    assert.match((await post(json, Buffer.from("{")))[1], /not valid JSON/);
    assert.equal((await post(json, Buffer.from(`\uFEFF${JSON.stringify({ ...SNOW, prompt: "Füchse 🦊 \uFFFD" })}`)))[0], 200);
  });

  test("big texts are compressed for those who take it, small ones and results are not", async () => {
    const plain = await curl(`${gateway.url}/openapi.json`);
    assert.deepEqual([plain.headers["content-encoding"], plain.headers["vary"]], [undefined, "Accept-Encoding"]);
    for (const path of ["/openapi.json", "/console/app.js"]) {
      const { headers, body } = await undiciRequest(`${gateway.url}${path}`, { headers: { "accept-encoding": "gzip, br" } });
      const zipped = Buffer.from(await body.arrayBuffer());
      assert.deepEqual([headers["content-encoding"], headers["vary"]], ["gzip", "Accept-Encoding"], path);
      assert.equal(Number(headers["content-length"]), zipped.length, path);
      assert.equal(gunzipSync(zipped).toString(), (await curl(`${gateway.url}${path}`)).body, path);
      const head = await undiciRequest(`${gateway.url}${path}`, { method: "HEAD", headers: { "accept-encoding": "gzip" } });
      for (const name of ["content-encoding", "content-length", "vary", "etag", "content-type"])
        assert.equal(head.headers[name], headers[name], `HEAD ${path}: ${name}`);
      await head.body.dump();
    }
    const compressed = await run("curl", ["-sS", "--compressed", `${gateway.url}/openapi.json`]);
    assert.equal(compressed.stdout, plain.body, "curl decodes it");
    const small = await undiciRequest(`${gateway.url}/healthz`, { headers: { "accept-encoding": "gzip" } });
    assert.deepEqual([small.headers["content-encoding"], small.headers["vary"]], [undefined, undefined]);
    await small.body.dump();
  });

  test("the console's files have tags, conditions and ranges", async () => {
    const url = `${gateway.url}/console/style.css`;
    const whole = await curl(url);
    const etag = whole.headers["etag"] ?? "";
    assert.match(etag, /^"[^"]+"$/);
    const zipped = await undiciRequest(url, { headers: { "accept-encoding": "gzip" } });
    await zipped.body.dump();
    assert.equal(zipped.headers.etag, `W/${etag}`, "other bytes: a weak tag");
    for (const tag of [etag, `W/${etag}`, `"x", ${etag}`, "*"]) {
      const same = await curl("-H", `If-None-Match: ${tag}`, "-H", "Accept-Encoding: gzip", url);
      assert.deepEqual([same.status, same.body, same.headers["etag"], same.headers["vary"]], [304, "", etag, "Accept-Encoding"], tag);
    }
    const part = await curl("-r", "0-9", "-H", "Accept-Encoding: gzip", "-H", `If-Range: ${etag}`, url);
    assert.deepEqual([part.status, part.body, part.headers["content-encoding"]], [206, whole.body.slice(0, 10), undefined]);
    assert.equal((await curl("-r", "0-9", "-H", `If-Range: W/${etag}`, url)).status, 200);
    const failed = await curl("-H", 'If-Match: "x"', url);
    assert.equal(failed.status, 412);
    assertShape(failed, "If-Match");
    const beyond = await curl("-r", "9999999-", url);
    assert.deepEqual([beyond.status, beyond.headers["content-range"]], [416, `bytes */${Buffer.byteLength(whole.body)}`]);
    assertShape(beyond, "a range beyond the end");
  });

  test("a page is told all that it may need", async () => {
    const answer = await api.get("/api/v1/client/balance");
    const exposed = answer.headers.get("access-control-expose-headers")?.split(", ") ?? [];
    for (const name of [
      "Content-Range",
      "Accept-Ranges",
      "ETag",
      "Content-Length",
      "Retry-After",
      "X-RateLimit-Limit",
      "X-RateLimit-Remaining",
      "X-RateLimit-Type",
      "X-Request-Id",
      "Allow",
      "WWW-Authenticate",
    ])
      assert.ok(exposed.includes(name), name);
  });
});
