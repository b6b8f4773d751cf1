import assert from "node:assert/strict";
import { once } from "node:events";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { MIN_BYTES, startWatch } from "./transfer-watch.ts";

const messageOf = ({ reason }: AbortSignal): string => (reason as Error).message;

test("what ended a download is told apart: no answer, too few bytes, too long in all, the caller", async () => {
  using silent = startWatch({ timeoutMs: 60_000, stallMs: 20 });
  await once(silent.signal, "abort");
  assert.equal(messageOf(silent.signal), "no answer within 0.02 s");

  using dripping = startWatch({ timeoutMs: 60_000, stallMs: 20 });
  const body = new PassThrough();
  dripping.through(body).resume();
  body.write(Buffer.alloc(MIN_BYTES - 1));
  await once(dripping.signal, "abort");
  assert.equal(messageOf(dripping.signal), `fewer than ${MIN_BYTES} bytes came within 0.02 s`);

  using long = startWatch({ timeoutMs: 20, stallMs: 60_000 });
  await once(long.signal, "abort");
  assert.equal(messageOf(long.signal), "it was not there within 0.02 s");

  const caller = new AbortController();
  using aborted = startWatch({ timeoutMs: 60_000, stallMs: 60_000, signal: caller.signal });
  caller.abort(new Error("the client cancelled it"));
  assert.equal(messageOf(aborted.signal), "the client cancelled it");
});

test("bytes come out as they went in", async () => {
  using watch = startWatch({ timeoutMs: 60_000, stallMs: 60_000 });
  const body = new PassThrough();
  const bytes = Buffer.alloc(3 * MIN_BYTES + 1, "abc");
  body.end(bytes);
  assert.deepEqual(Buffer.concat(await watch.through(body).toArray()), bytes);
});
