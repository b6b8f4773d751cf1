import assert from "node:assert/strict";
import { mkdtemp, open } from "node:fs/promises";
import { createConnection } from "node:net";
import { once } from "node:events";
import { test } from "node:test";
import { RedisError, redisFailure } from "../../core/redis-failure.ts";
import { AppError } from "../../protocol/error.ts";
import { notNow } from "./not-now.ts";

const replyOf = (text: string): Error => Object.assign(new Error(text), { name: "ReplyError" });

test("what waiting helps against is 503, by who has to act", () => {
  for (const [thrown, kind, retryAfterS] of [
    [replyOf("OOM command not allowed when used memory > 'maxmemory'."), "queue", 30],
    [replyOf("MISCONF Redis is configured to save RDB snapshots"), "queue", 30],
    [replyOf("READONLY You can't write against a read only replica."), "queue", 5],
    [replyOf("LOADING Redis is loading the dataset in memory"), "queue", 5],
    [replyOf("BUSY Redis is busy running a script."), "queue", 5],
    [replyOf("NOREPLICAS Not enough good replicas to write."), "queue", 5],
    [new Error("Connection is closed."), "queue", 5],
    [new Error("Stream isn't writeable and enableOfflineQueue options is false"), "queue", 5],
    [new AppError("REDIS_UNAVAILABLE", "adding a job: Redis failed (something new)"), "queue", 5],
    [new AppError("STORAGE_UNAVAILABLE", "no answer"), "store", 5],
    [new AppError("STORAGE_UNAVAILABLE", "full", { cause: Object.assign(new Error("full"), { code: "ENOSPC" }) }), "store", 30],
    [new AppError("STORAGE_REJECTED", "EROFS"), "store", 30],
    [new AppError("SPOOL_FULL", "full"), "disk", 30],
    [new AppError("CAPACITY_UNAVAILABLE", "none"), "capacity", 30],
  ] as const) {
    const found = notNow(thrown);
    assert.deepEqual([found?.kind, found?.retryAfterS], [kind, retryAfterS], thrown.message);
    assert.match(found?.message ?? "", /now\. Please try again/);
  }
  const failure = redisFailure("OOM command not allowed");
  assert.ok(failure !== null);
  assert.equal(notNow(new RedisError("adding job 1", failure, new Error("OOM")))?.retryAfterS, 30);
});

test("a folder for temporary files that is gone is a trouble of the machine; a file that is missing is a bug", async () => {
  const thrownBy = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => assert.fail("it worked"),
      (thrown: unknown) => thrown,
    );
  assert.equal(notNow(await thrownBy(mkdtemp("/nowhere/at/all/upload-")))?.kind, "disk");
  assert.equal(notNow(await thrownBy(open("/nowhere/at/all"))), null);
  assert.equal(notNow(new AppError("INTERNAL", "x")), null);
  assert.equal(notNow(new AppError("INVALID_INPUT", "x")), null);
  assert.equal(notNow(new TypeError("Cannot read properties of undefined")), null);
  assert.equal(notNow("a text"), null);
  const socket = createConnection({ path: "/nowhere/socket" });
  const [refused] = (await once(socket, "error")) as [Error];
  assert.equal(notNow(refused), null, "a socket is no disk");
});
