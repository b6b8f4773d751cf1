import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { startReceiver, type Receiver } from "../../../test/support/https-receiver.ts";
import { openGuardedFetch } from "../../net/open-guarded-fetch.ts";
import type { ErrorCode } from "../../protocol/error.ts";
import { fetchSource, sourceUrlOf } from "./fetch-source.ts";

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
  return await fetchSource(fetch, { url: `${server.url}/speech.wav`, path: join(dir, "0"), maxBytes: 1_000, signal });
}

const refusal = (code: ErrorCode, message: RegExp) => ({ code, message });

test("a file comes as it is", async () => {
  server.answer = (_request, response) => void response.writeHead(200, { "content-type": "audio/wav" }).end("RIFF....");
  assert.deepEqual(await fetched(), { name: "source", path: join(dir, "0"), contentType: "audio/wav" });
  assert.equal(await readFile(join(dir, "0"), "utf8"), "RIFF....");
});

test("private addresses, redirects, pages and too much are final, other failures are not", async () => {
  server.answer = (_request, response) => void response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end("<html>");
  await assert.rejects(fetched(), refusal("INVALID_INPUT", /leads to a page, expected a sound or film file itself/));
  await assert.rejects(fetched([]), refusal("INVALID_INPUT", /the input URL was not downloaded: /));
  server.answer = (_request, response) => void response.writeHead(302, { location: "http://169.254.169.254/" }).end();
  await assert.rejects(fetched(), refusal("INVALID_INPUT", /redirects are not followed/));
  server.answer = (_request, response) => void response.end("x".repeat(1_001));
  await assert.rejects(fetched(), refusal("INPUT_TOO_LARGE", /1000 bytes/));
  server.answer = (_request, response) => void response.writeHead(503).end();
  await assert.rejects(fetched(), refusal("SOURCE_DOWNLOAD_FAILED", /answered 503/));
});

test("only tasks with a URL have one", () => {
  assert.equal(sourceUrlOf("aud2txt", { audio_url: "https://x.example/a" }), "https://x.example/a");
  assert.equal(sourceUrlOf("vid2txt", { video_url: "https://x.example/b" }), "https://x.example/b");
  assert.equal(sourceUrlOf("txt2img", { audio_url: "https://x.example/a" }), null);
});
