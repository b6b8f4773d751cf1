import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { startReceiver, type Receiver } from "../../test/support/https-receiver.ts";
import { createEgressPolicy } from "./egress-policy.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { openGuardedFetch, type GuardedFetch } from "./open-guarded-fetch.ts";

let receiver: Receiver;
let fetch: GuardedFetch;
let dir: string;
before(async () => {
  receiver = await startReceiver();
  fetch = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: false, ca: [receiver.ca] });
  dir = await mkdtemp(join(tmpdir(), "dryapi-net-test-"));
});
after(async () => {
  await fetch[Symbol.asyncDispose]();
  await receiver[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});
afterEach(() => {
  receiver.answer = (_request, response) => void response.end("ok");
});

const post = (path: string, rest: Partial<Parameters<GuardedFetch["send"]>[0]> = {}): ReturnType<GuardedFetch["send"]> =>
  fetch.send({ url: receiver.url + path, headers: {}, body: "{}", timeoutMs: 60_000, maxAnswerBytes: 4_096, ...rest });

const get = (path: string, rest: Partial<Parameters<GuardedFetch["download"]>[0]> = {}): ReturnType<GuardedFetch["download"]> =>
  fetch.download({ url: receiver.url + path, path: join(dir, "file"), maxBytes: 100_000, timeoutMs: 60_000, ...rest });

async function failed(work: Promise<unknown>): Promise<string> {
  try {
    await work;
  } catch (thrown) {
    if (thrown instanceof FetchFailure) return thrown.reason;
    throw thrown;
  }
  return "nothing failed";
}

/** Sends a byte every few milliseconds, without end. */
function drip(response: ServerResponse): void {
  const timer = setInterval(() => response.write("x"), 5);
  response.on("close", () => clearInterval(timer));
}

test("a POST arrives byte for byte, with the headers given and no others of its own making", async () => {
  const body = '{"text":"ünïcödé \\u0000  spaced"}';
  const answer = await post("/hook?a=b", { headers: { "X-One": "1", "Content-Type": "application/json", "X-Empty": "" }, body });
  assert.deepEqual([answer.status, answer.body.toString()], [200, "ok"]);
  const { method, path, body: arrived, rawHeaders } = await receiver.request((request) => request.path === "/hook?a=b");
  assert.deepEqual([method, path, arrived], ["POST", "/hook?a=b", body]);
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  assert.deepEqual(names.toSorted(), ["connection", "content-length", "content-type", "host", "x-empty", "x-one"]);
});

test("redirects of a POST are answers, not instructions", async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    receiver.answer = (_request, response) => void response.writeHead(status, { location: `${receiver.url}/elsewhere` }).end();
    assert.equal((await post("/redirect")).status, status);
  }
  assert.ok(receiver.received.every(({ path }) => path !== "/elsewhere"));
});

test("of an answer's body only the first bytes are kept, however much is sent", async () => {
  receiver.answer = (_request, response) => {
    response.on("error", () => undefined);
    const more = (): void => {
      while (!response.destroyed && response.write("y".repeat(65_536)));
      response.once("drain", more);
    };
    more();
  };
  const { status, body } = await post("/flood");
  assert.deepEqual([status, body.length, body.toString()], [200, 4_096, "y".repeat(4_096)]);
});

test("an answer that never comes ends at the deadline, also when its headers drip in", async () => {
  receiver.answer = () => undefined;
  assert.equal(await failed(post("/silent", { timeoutMs: 50 })), "timeout");
  receiver.answer = (_request, response) => {
    response.socket?.write("HTTP/1.1 200 OK\r\n");
    const timer = setInterval(() => response.socket?.write("x-drip: 1\r\n"), 5);
    response.socket?.on("close", () => clearInterval(timer));
  };
  assert.equal(await failed(post("/drip", { timeoutMs: 100 })), "timeout");
});

test("a status counts although its body drips without end", async () => {
  receiver.answer = (_request, response) => drip(response);
  const { status, body } = await post("/drip", { maxAnswerBytes: 5 });
  assert.deepEqual([status, body.toString()], [200, "xxxxx"]);
});

test("a download that drips ends at its deadline and leaves no file", async () => {
  receiver.answer = (_request, response) => drip(response);
  assert.equal(await failed(get("/drip", { timeoutMs: 100 })), "timeout");
  assert.deepEqual(await readdir(dir), []);
});

test("a certificate that nobody vouches for is refused", async () => {
  await using strict = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: false });
  const url = `${receiver.url}/untrusted`;
  assert.equal(await failed(strict.send({ url, headers: {}, body: "", timeoutMs: 60_000, maxAnswerBytes: 1 })), "certificate");
  assert.ok(receiver.received.every(({ path }) => path !== "/untrusted"));
});

test("nobody listening, a cut connection and an unknown host are failures of the network", async () => {
  assert.equal(await failed(post("/", { url: "https://127.0.0.1:1/" })), "network");
  receiver.answer = (_request, response) => void response.socket?.destroy();
  assert.equal(await failed(post("/cut")), "network");
  await using nowhere = openGuardedFetch({
    egressAllow: [],
    allowHttp: false,
    resolve: () => Promise.reject(new Error("getaddrinfo ENOTFOUND nowhere.test")),
  });
  assert.equal(
    await failed(nowhere.send({ url: "https://nowhere.test/", headers: {}, body: "", timeoutMs: 60_000, maxAnswerBytes: 1 })),
    "network",
  );
});

test("the caller's signal ends a request with the caller's own reason", async () => {
  const stop = new AbortController();
  receiver.answer = () => stop.abort(new Error("the courier ends"));
  await assert.rejects(post("/aborted", { signal: stop.signal }), /the courier ends/);
});

test("a download is there whole, with its size and digest", async () => {
  const bytes = Buffer.alloc(90_000, "abc");
  receiver.answer = (_request, response) => void response.writeHead(200, { "content-type": "image/png" }).end(bytes);
  const got = await get("/picture");
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  assert.deepEqual(got, { sizeBytes: 90_000, sha256, contentType: "image/png" });
  assert.deepEqual(await readFile(join(dir, "file")), bytes);
  await rm(join(dir, "file"));
});

test("a download over the limit leaves no file, whether the server says its size or not", async () => {
  const bytes = Buffer.alloc(100_001);
  receiver.answer = (_request, response) => void response.writeHead(200, { "content-length": bytes.length }).end(bytes);
  assert.equal(await failed(get("/declared")), "too-large");
  receiver.answer = (_request, response) => {
    response.write(bytes);
    response.end();
  };
  assert.equal(await failed(get("/chunked")), "too-large");
  receiver.answer = (_request, response) => {
    response.writeHead(200, { "content-length": 1_000 });
    response.write("short", () => response.socket?.destroy());
  };
  assert.equal(await failed(get("/cut")), "network");
  receiver.answer = (_request, response) => void response.writeHead(404).end();
  assert.equal(await failed(get("/missing")), "status");
  assert.deepEqual(await readdir(dir), []);
});

test("an opened range opens nothing beside it", () => {
  const policy = createEgressPolicy(["10.1.0.0/16", "fd00:1::/32", "::ffff:192.168.5.0/120"]);
  for (const address of ["10.1.2.3", "::ffff:10.1.2.3", "fd00:1::5", "192.168.5.9", "8.8.8.8", "2606:4700::1111"])
    assert.equal(policy.allows(address), true, address);
  for (const address of ["10.2.0.1", "fd00:2::5", "192.168.6.1", "127.0.0.1", "::10.1.2.3", "64:ff9b::a01:203", ""])
    assert.equal(policy.allows(address), false, address);
  assert.throws(() => createEgressPolicy(["10.1.0.0/99"]), /DRYAPI_EGRESS_ALLOW/);
});
