import assert from "node:assert/strict";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { childrenOfThis } from "../../test/support/children.ts";
import { gone } from "../../test/support/system.ts";
import { findProgram } from "../lib/find-program.ts";
import type { AppError } from "../protocol/error.ts";
import { openProgram, type ProgramOptions, type ProgramRun } from "./helper-program.ts";

const LIMITS = { cpuSeconds: 60, memoryBytes: 2 ** 32, fileBytes: 2 ** 20 };
const shell = findProgram("sh") ?? "";
const run = (script: string, more: Partial<ProgramOptions> = {}): ProgramRun =>
  openProgram({ what: "testing", file: shell, args: ["-c", script], failure: "BAD_OUTPUT", limits: LIMITS, ...more });
const MEBIBYTE = new Uint8Array(2 ** 20);
const failsWith = (code: string, words: RegExp) => (error: AppError) => error.code === code && words.test(error.message);

test("what goes in comes out", async () => {
  await using program = run("cat");
  const read = text(program.stdout);
  await program.write(Buffer.from("some "));
  await program.write(Buffer.from("words"));
  await program.finish();
  assert.equal(await read, "some words");
});

test("a program that dies while it is behind ends the write that waits for it, with its last words", async () => {
  await using program = run("echo 'out of ideas' >&2; exit 3");
  await assert.rejects(
    async () => {
      for (;;) await program.write(MEBIBYTE);
    },
    failsWith("BAD_OUTPUT", /^testing: sh ended with 3: out of ideas$/),
  );
  await assert.rejects(program.write(MEBIBYTE), { code: "BAD_OUTPUT" });
  await assert.rejects(program.finish(), { code: "BAD_OUTPUT" });
});

test("one that is content before it has all of its input has not done its work", async () => {
  await using program = run("exit 0");
  await assert.rejects(
    async () => {
      for (;;) await program.write(MEBIBYTE);
    },
    failsWith("BAD_OUTPUT", /sh ended before it had all of its input/),
  );
});

test("one that somebody else kills is the machine's failure; one that breaks its limits is the caller's", async () => {
  await using killed = run("kill -KILL $$");
  await assert.rejects(killed.ended, failsWith("INTERNAL", /SIGKILL.*killed from outside/));
  await using greedy = run("head -c 2000000 /dev/zero > /dev/shm/greedy-$$; code=$?; rm /dev/shm/greedy-$$; exit $code");
  await assert.rejects(greedy.ended, { code: "BAD_OUTPUT" });
  await using busy = run("while :; do :; done", { limits: { ...LIMITS, cpuSeconds: 1 } });
  await assert.rejects(busy.ended, failsWith("BAD_OUTPUT", /SIGXCPU/));
});

test("words about a full disk are the machine's failure", async () => {
  await using program = run("echo 'av_interleaved_write_frame(): No space left on device' >&2; exit 228");
  await assert.rejects(program.ended, failsWith("SPOOL_FULL", /No space left on device.*free space/));
});

test("disposing ends it, also while its output is read by halves or by nobody, and its input is full", async () => {
  for (const read of [true, false]) {
    {
      await using program = run("cat /dev/zero");
      if (read) await once(program.stdout, "readable");
      const writing = program.write(MEBIBYTE).catch(() => undefined);
      await program[Symbol.asyncDispose]();
      await writing;
    }
    assert.deepEqual(childrenOfThis(), []);
  }
});

test("a signal ends it, and its reason is the error, also of a write that waits", async () => {
  const stop = new AbortController();
  await using program = run("sleep 1000", { signal: stop.signal });
  const writing = program.write(MEBIBYTE);
  const reason = new Error("enough");
  stop.abort(reason);
  await assert.rejects(writing, reason);
  assert.deepEqual(childrenOfThis(), []);
  assert.throws(() => run("true", { signal: stop.signal }), reason);
});

test("what a program has started itself goes with it", async () => {
  const stop = new AbortController();
  await using program = run("sleep 1000 & echo $!; wait", { signal: stop.signal });
  const [line] = (await once(program.stdout, "data")) as [Buffer];
  stop.abort(new Error("enough"));
  await assert.rejects(program.ended, /enough/);
  await gone(Number(line.toString()));
});
