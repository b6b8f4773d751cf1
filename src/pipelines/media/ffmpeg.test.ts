import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { after, test } from "node:test";
import type { AppError } from "../../protocol/error.ts";
import { findFfmpeg, openFfmpeg } from "./ffmpeg.ts";

const dir = await mkdtemp(join(tmpdir(), "ffmpeg-test-"));
after(() => rm(dir, { recursive: true, force: true }));
const SILENCE = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono"];

test("samples go in and come out through pipes", async () => {
  const args = ["-f", "s16le", "-ar", "8000", "-ac", "1", "-i", "pipe:0", "-f", "s16le", "pipe:1"];
  await using run = openFfmpeg({ what: "copying", args, failure: "INTERNAL" });
  const samples = Buffer.from(Int16Array.from({ length: 8_000 }, (_, index) => index).buffer);
  const written = run.write(samples).then(() => run.finish());
  assert.deepEqual(await buffer(run.stdout), samples);
  await written;
});

test("what is no media is told in ffmpeg's words, with the code that the caller gave", async () => {
  const path = join(dir, "broken.mp3");
  await writeFile(path, "no sound at all");
  await using run = openFfmpeg({ what: "decoding broken.mp3", args: ["-i", path, "-f", "null", "-"], failure: "MEDIA_UNREADABLE" });
  await assert.rejects(
    run.ended,
    (error: AppError) => error.code === "MEDIA_UNREADABLE" && /^decoding broken\.mp3: ffmpeg ended with \d+: .*Invalid/.test(error.message),
  );
});

test("it runs under its limits", async () => {
  const path = join(dir, "limited.wav");
  const args = [...SILENCE, "-t", "60", path];
  await using run = openFfmpeg({ what: "writing", args, failure: "BAD_OUTPUT", limits: { fileBytes: 10_000 } });
  await assert.rejects(run.ended, (error: AppError) => error.code === "BAD_OUTPUT");
});

test("a signal ends it, and is the reason", async () => {
  const stop = new AbortController();
  await using run = openFfmpeg({ what: "endless", args: [...SILENCE, "-f", "s16le", "pipe:1"], failure: "INTERNAL", signal: stop.signal });
  await once(run.stdout, "readable");
  const reason = new Error("enough");
  stop.abort(reason);
  await assert.rejects(run.ended, reason);
});

test("disposing of a run kills it", async () => {
  const run = openFfmpeg({ what: "endless", args: [...SILENCE, "-f", "s16le", "pipe:1"], failure: "INTERNAL" });
  await run[Symbol.asyncDispose]();
  await assert.rejects(run.ended, /ended with SIGKILL/);
});

test("ffprobe is the other program", async () => {
  await using run = openFfmpeg({ what: "asking", program: "ffprobe", args: ["-version"], failure: "INTERNAL" });
  assert.match(await text(run.stdout), /^ffprobe version/);
});

test("a folder without ffmpeg is named, with what to install", () => {
  process.env["DRYAPI_FFMPEG_DIR"] = dir;
  try {
    assert.throws(
      () => findFfmpeg(),
      (error: AppError) =>
        error.code === "MODEL_UNSUPPORTED" && error.message.includes(dir) && error.message.includes("apt-get install ffmpeg"),
    );
  } finally {
    delete process.env["DRYAPI_FFMPEG_DIR"];
  }
});
