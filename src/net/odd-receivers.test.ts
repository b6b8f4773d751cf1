import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { startRawReceiver } from "../../test/support/raw-receiver.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { openGuardedFetch, type GuardedFetch } from "./open-guarded-fetch.ts";

const run = promisify(execFile);
const hasCurl = ((): boolean => {
  try {
    execFileSync("curl", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
})();

let fetch: GuardedFetch;
before(() => {
  fetch = openGuardedFetch({ egressAllow: ["127.0.0.0/8"], allowHttp: true });
});
after(() => fetch[Symbol.asyncDispose]());

const post = (url: string, body: string = "{}"): ReturnType<GuardedFetch["send"]> =>
  fetch.send({ url, headers: {}, body, timeoutMs: 60_000, maxAnswerBytes: 4_096 });

/** Status and body, or the reason of the failure. */
async function outcomeOf(answering: ReturnType<GuardedFetch["send"]>): Promise<string> {
  try {
    const { status, body } = await answering;
    return `${status} ${body.toString()}`.trim();
  } catch (thrown) {
    if (thrown instanceof FetchFailure) return thrown.reason;
    throw thrown;
  }
}

/** What curl prints, its `%{http_code}` and its exit code, 0 where all was well. */
async function curl(url: string): Promise<string> {
  const args = ["--silent", "--max-time", "60", "--write-out", " | %{http_code} %{exitcode}", "--data", "{}", url];
  const done = (await run("curl", args).catch((error: unknown) => error)) as { readonly stdout: string };
  return done.stdout.trim();
}

const head = (status: string, ...headers: readonly string[]): string => [`HTTP/1.1 ${status}`, ...headers, "", ""].join("\r\n");
const ok = head("200 OK", "Content-Length: 2") + "ok";
const chunked = (body: string, ...headers: readonly string[]): string => head("200 OK", "Transfer-Encoding: chunked", ...headers) + body;

interface Odd {
  readonly bytes: string;
  /** The server closes after its bytes. */
  readonly close?: true;
  readonly ours: string;
  /** Where it says something else than ours, the comment beside it tells why. */
  readonly curl: string;
}

const ODD: Readonly<Record<string, Odd>> = {
  "100 Continue, asked by nobody": { bytes: head("100 Continue") + ok, ours: "200 ok", curl: "ok | 200 0" },
  "many interim answers": {
    bytes: head("100 Continue").repeat(20) + head("103 Early Hints", "Link: </a>; rel=preload").repeat(20) + ok,
    ours: "200 ok",
    curl: "ok | 200 0",
  },
  // curl reads them without end.
  "interim answers without end": { bytes: head("102 Processing").repeat(150) + ok, ours: "answer", curl: "ok | 200 0" },
  // Both take it for the status; to curl the end that follows is an error.
  "101 Switching Protocols": {
    bytes: head("101 Switching Protocols", "Connection: upgrade", "Upgrade: x"),
    close: true,
    ours: "101",
    curl: "| 101 52",
  },
  "204 without a body": { bytes: head("204 No Content"), ours: "204", curl: "| 204 0" },
  "204 with a body": { bytes: head("204 No Content", "Content-Length: 5") + "hello", ours: "204", curl: "| 204 0" },
  "205 without a length": { bytes: head("205 Reset Content"), close: true, ours: "205", curl: "| 205 0" },
  "304": { bytes: head("304 Not Modified", "Content-Length: 7"), ours: "304", curl: "| 304 0" },
  "a redirect": { bytes: head("307 Temporary Redirect", "Location: /b", "Content-Length: 0"), ours: "307", curl: "| 307 0" },
  "HTTP/1.0 without a length": { bytes: "HTTP/1.0 200 OK\r\n\r\nhello", close: true, ours: "200 hello", curl: "hello | 200 0" },
  "HTTP/1.1 without a length": { bytes: head("200 OK") + "hello", close: true, ours: "200 hello", curl: "hello | 200 0" },
  // The status counts: the receiver has taken the delivery. curl has a body to lose.
  "a body that is cut": { bytes: head("200 OK", "Content-Length: 9") + "hello", close: true, ours: "200 hello", curl: "hello | 200 18" },
  "chunks that are cut": { bytes: chunked("5\r\nhe"), close: true, ours: "200 he", curl: "he | 200 18" },
  "chunks that are none": { bytes: chunked("zz\r\nok"), close: true, ours: "200", curl: "| 200 56" },
  trailers: { bytes: chunked("2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", "Trailer: X-T"), ours: "200 ok", curl: "ok | 200 0" },
  "a length beside chunks": { bytes: chunked("2\r\nok\r\n0\r\n\r\n", "Content-Length: 3"), ours: "200 ok", curl: "ok | 200 0" },
  // curl takes the first and misses bytes then.
  "two lengths": {
    bytes: head("200 OK", "Content-Length: 2", "Content-Length: 3") + "ok",
    close: true,
    ours: "answer",
    curl: "ok | 200 18",
  },
  "a header of 40 KiB": {
    bytes: head("200 OK", `X-A: ${"a".repeat(40_000)}`, "Content-Length: 2") + "ok",
    ours: "200 ok",
    curl: "ok | 200 0",
  },
  "a header of 200 KiB": {
    bytes: head("200 OK", `X-A: ${"a".repeat(200_000)}`, "Content-Length: 2") + "ok",
    ours: "answer",
    curl: "| 200 27",
  },
  "lines that end in LF alone": { bytes: ok.replaceAll("\r\n", "\n"), ours: "200 ok", curl: "ok | 200 0" },
  "a folded header": { bytes: head("200 OK", "X-A: a\r\n b", "Content-Length: 2") + "ok", ours: "200 ok", curl: "ok | 200 0" },
  "no reason phrase": { bytes: head("200", "Content-Length: 2") + "ok", ours: "200 ok", curl: "ok | 200 0" },
  "another protocol": { bytes: "SSH-2.0-OpenSSH_9.2\r\n", close: true, ours: "answer", curl: "| 000 1" },
  "nothing at all": { bytes: "", close: true, ours: "network", curl: "| 000 52" },
  // curl 7 takes the status line alone for the answer.
  "a head that is cut": { bytes: "HTTP/1.1 200 OK\r\nContent-", close: true, ours: "network", curl: "| 200 0" },
};

for (const [name, odd] of Object.entries(ODD)) {
  test(`${name}: ${odd.ours}; curl: ${odd.curl}`, async () => {
    await using receiver = await startRawReceiver({
      answer: ({ socket }) => {
        socket.write(odd.bytes, "latin1");
        if (odd.close === true) socket.end();
      },
    });
    assert.equal(await outcomeOf(post(receiver.url)), odd.ours);
    assert.equal(receiver.requests.length, 1, "one attempt is one request");
    if (hasCurl) assert.equal(await curl(receiver.url), odd.curl);
  });
}

test("an answer that comes before the body is read, and a reset after it: the answer counts", async () => {
  await using receiver = await startRawReceiver({
    early: true,
    answer: ({ socket }) => void socket.end(head("413 Content Too Large", "Content-Length: 0")),
  });
  const body = "x".repeat(16 * 1024 * 1024);
  assert.equal(await outcomeOf(post(receiver.url, body)), "413");
  assert.equal(receiver.requests.length, 1);
});

test("what comes after an answer's end is nobody's answer", async () => {
  await using receiver = await startRawReceiver({
    answer: ({ socket }) => void socket.write(ok + head("500 Poison", "Content-Length: 0")),
  });
  for (let request = 0; request < 3; request += 1) assert.equal(await outcomeOf(post(receiver.url)), "200 ok");
  assert.equal(receiver.connections(), 3);
});

test("a kept connection that its server closes when the next request comes is replaced, within the attempt", async () => {
  await using receiver = await startRawReceiver({
    answer: ({ socket, connection, number }) => {
      // The keep-alive race: closed by the server while the request is on its way.
      if (connection === 0 && number > 0) socket.resetAndDestroy();
      else socket.write(ok);
    },
  });
  for (let request = 0; request < 3; request += 1) assert.equal(await outcomeOf(post(receiver.url)), "200 ok");
  assert.deepEqual(
    receiver.requests.map(({ connection, number }) => [connection, number]),
    [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ],
  );
});

test("a new connection that is cut is a failed attempt, not a second request", async () => {
  await using receiver = await startRawReceiver({ answer: ({ socket }) => void socket.resetAndDestroy() });
  await assert.rejects(post(receiver.url), /the receiver closed the connection without an answer \(ECONNRESET\)/);
  assert.equal(receiver.requests.length, 1);
});

test("connections are not kept against the server's will", async () => {
  for (const header of ["Connection: close", "Keep-Alive: timeout=1"]) {
    await using receiver = await startRawReceiver({
      answer: ({ socket }) => void socket.write(head("200 OK", header, "Content-Length: 2") + "ok"),
    });
    for (let request = 0; request < 2; request += 1) await post(receiver.url);
    assert.equal(receiver.connections(), 2, header);
  }
});

test("Retry-After is read as seconds and as a date, by the answer's own clock", async () => {
  const cases = [
    [["Retry-After: 120"], 120_000],
    [["Retry-After: Sun, 06 Nov 1994 08:51:37 GMT", "Date: Sun, 06 Nov 1994 08:49:37 GMT"], 120_000],
    [["Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"], 0],
    [["Retry-After: soon"], null],
    [[], null],
  ] as const;
  for (const [headers, expected] of cases) {
    await using receiver = await startRawReceiver({
      answer: ({ socket }) => void socket.write(head("503 Service Unavailable", ...headers, "Content-Length: 0")),
    });
    const { retryAfterMs } = await post(receiver.url);
    assert.equal(retryAfterMs, expected, headers.join(", "));
  }
});
