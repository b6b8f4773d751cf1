import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { startReceiver, type Receiver } from "../../../test/support/https-receiver.ts";
import { openGuardedFetch } from "../../net/open-guarded-fetch.ts";
import { ERROR_TABLE, publicMessage, type AppError, type ErrorCode } from "../../protocol/error.ts";
import { fetchSource, sourceOf } from "./fetch-source.ts";

let dir: string;
let server: Receiver;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "fetch-source-"));
  server = await startReceiver();
});
afterEach(async () => {
  for (const name of await readdir(dir)) await rm(join(dir, name));
});
after(async () => {
  await server[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

async function fetched(egressAllow: readonly string[] = ["127.0.0.0/8"]): ReturnType<typeof fetchSource> {
  await using fetch = openGuardedFetch({ egressAllow, allowHttp: true, ca: [server.ca] });
  const signal = new AbortController().signal;
  return await fetchSource(fetch, { field: "audio_url", url: `${server.url}/speech.wav`, path: join(dir, "0"), maxBytes: 1_000, signal });
}

const told = async (answer: Receiver["answer"], egressAllow?: readonly string[]): Promise<readonly unknown[]> => {
  server.answer = answer;
  const { code, field, detail } = await fetched(egressAllow).then(
    () => assert.fail("it was fetched"),
    (thrown: unknown) => thrown as AppError,
  );
  assert.equal(field, "audio_url");
  return [code, detail];
};
const answering =
  (status: number, headers: Readonly<Record<string, string>> = {}, body = "x"): Receiver["answer"] =>
  (_request, response) =>
    void response.writeHead(status, headers).end(body);

test("a file comes as it is", async () => {
  server.answer = (_request, response) => void response.writeHead(200, { "content-type": "audio/wav" }).end("RIFF....");
  assert.deepEqual(await fetched(), { name: "audio_url", path: join(dir, "0"), contentType: "audio/wav" });
  assert.equal(await readFile(join(dir, "0"), "utf8"), "RIFF....");
});

test("what a server calls its file does not count, what it is does", async () => {
  const wav = "RIFF\x24\0\0\0WAVEfmt ";
  server.answer = answering(200, { "content-type": "text/html" }, wav);
  assert.equal((await fetched()).contentType, "text/html");
  const other = "The answer of the server at the input URL is no sound or film file.";
  for (const [body, type, what] of [
    ["<!DOCTYPE html><title>Sign in</title>", "audio/mpeg", "a page"],
    ["\uFEFF\n <html>", "application/octet-stream", "a page"],
    ["Please sign in", "text/html; charset=utf-8", "a page"],
    ["#EXTM3U\n#EXT-X-VERSION:3", "audio/mpeg", "a playlist"],
    ['<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "audio/mp4", "a playlist"],
    ["\x89PNG\r\n\x1A\n\0\0\0\rIHDR", "audio/mpeg", "a picture"],
  ] as const) {
    const [code, detail] = await told((_request, response) => {
      response.writeHead(200, { "content-type": type }).end(Buffer.from(body, what === "a picture" ? "latin1" : "utf8"));
    });
    assert.deepEqual([code, detail], ["SOURCE_UNPROCESSABLE", `It leads to ${what}, expected a sound or film file itself.`], body);
    assert.equal(publicMessage({ code: "SOURCE_UNPROCESSABLE", detail: String(detail) }), `${other} ${String(detail)}`);
  }
});

/** What a status becomes, and whether this system, and a client, may try again. */
const STATUSES: readonly (readonly [status: number, code: ErrorCode, again: boolean])[] = [
  [202, "SOURCE_DOWNLOAD_FAILED", true],
  [204, "SOURCE_UNPROCESSABLE", false],
  [304, "SOURCE_UNPROCESSABLE", false],
  [400, "SOURCE_RESTRICTED", false],
  [401, "SOURCE_RESTRICTED", false],
  [403, "SOURCE_RESTRICTED", false],
  [404, "SOURCE_NOT_FOUND", false],
  [408, "SOURCE_DOWNLOAD_FAILED", true],
  [410, "SOURCE_NOT_FOUND", false],
  [418, "SOURCE_RESTRICTED", false],
  [425, "SOURCE_DOWNLOAD_FAILED", true],
  [429, "SOURCE_DOWNLOAD_FAILED", true],
  [451, "SOURCE_RESTRICTED", false],
  [500, "SOURCE_DOWNLOAD_FAILED", true],
  [503, "SOURCE_DOWNLOAD_FAILED", true],
  [599, "SOURCE_DOWNLOAD_FAILED", true],
];

test("a status that means not now is tried again, any other is final", async () => {
  for (const [status, expected, again] of STATUSES) {
    const [code, detail] = await told(answering(status, {}, ""));
    assert.deepEqual([code, ERROR_TABLE[code as ErrorCode].retryable], [expected, again], String(status));
    assert.equal(ERROR_TABLE[code as ErrorCode].retry, again ? "backoff" : "never", String(status));
    assert.match(String(detail), new RegExp(`^The server answered ${status}[.:]`));
  }
});

test("how long a server asks to be left alone is kept", async () => {
  server.answer = answering(429, { "retry-after": "120" });
  await assert.rejects(fetched(), { code: "SOURCE_DOWNLOAD_FAILED", retryAfterMs: 120_000 });
  server.answer = answering(503, { date: "Sun, 06 Nov 1994 08:49:37 GMT", "retry-after": "Sun, 06 Nov 1994 08:50:07 GMT" });
  await assert.rejects(fetched(), { code: "SOURCE_DOWNLOAD_FAILED", retryAfterMs: 30_000 });
  server.answer = answering(503, { "retry-after": "soon" });
  await assert.rejects(fetched(), { code: "SOURCE_DOWNLOAD_FAILED", retryAfterMs: undefined });
});

test("private addresses, redirects without an end and too much are final", async () => {
  assert.deepEqual(await told(answering(200), []), ["SOURCE_REFUSED", "The URL names an address that is not public."]);
  assert.deepEqual(await told(answering(302, { location: "http://169.254.169.254/latest/" })), [
    "SOURCE_REFUSED",
    "A redirect leads elsewhere: the URL names an address that is not public.",
  ]);
  assert.deepEqual(await told(answering(302, { location: "/speech.wav" })), [
    "TOO_MANY_REDIRECTS",
    "A redirect leads back to where it came from.",
  ]);
  assert.deepEqual(await told(answering(302)), ["SOURCE_UNPROCESSABLE", "The server answered 302 without saying where to go."]);
  assert.deepEqual(await told(answering(200, {}, "x".repeat(1_001))), [
    "INPUT_TOO_LARGE",
    "The file is larger than the allowed 1000 bytes.",
  ]);
});

test("only tasks with a URL have one", () => {
  assert.deepEqual(sourceOf("aud2txt", { audio_url: "https://x.example/a" }), { field: "audio_url", url: "https://x.example/a" });
  assert.deepEqual(sourceOf("vid2txt", { video_url: "https://x.example/b" }), { field: "video_url", url: "https://x.example/b" });
  assert.equal(sourceOf("txt2img", { audio_url: "https://x.example/a" }), null);
});
