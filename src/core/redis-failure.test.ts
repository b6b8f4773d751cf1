import assert from "node:assert/strict";
import { test } from "node:test";
import { RedisError, redisFailure, type RedisFailureKind } from "./redis-failure.ts";

/** What Redis 6 and 7, ioredis, node's sockets and its TLS really say. */
const SAID: readonly (readonly [RedisFailureKind, string])[] = [
  ["wrong-password", "WRONGPASS invalid username-password pair or user is disabled."],
  ["wrong-password", "ERR invalid password"],
  ["no-password", "Ready check failed: NOAUTH Authentication required."],
  [
    "no-password",
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used",
  ],
  ["no-permission", "NOPERM this user has no permissions to run the 'eval' command"],
  ["no-permission", "NOPERM No permissions to access a key"],
  ["protected", "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user."],
  ["cluster", "MOVED 3999 127.0.0.1:6381"],
  ["cluster", "ASK 3999 127.0.0.1:6381"],
  ["cluster", "CROSSSLOT Keys in request don't hash to the same slot"],
  ["cluster", "ERR SELECT is not allowed in cluster mode"],
  ["wrong-db", "ERR DB index is out of range"],
  ["tls", "80DB:error:0A00010B:SSL routines:ssl3_get_record:wrong version number"],
  ["tls-authority", "self-signed certificate in certificate chain"],
  ["tls-authority", "unable to verify the first certificate"],
  ["tls-expired", "certificate has expired"],
  ["tls-name", "Hostname/IP does not match certificate's altnames: Host: a. is not in the cert's altnames"],
  ["loading", "LOADING Redis is loading the dataset in memory"],
  ["read-only", "READONLY You can't write against a read only replica. script: 1f3, on @user_script:1."],
  [
    "read-only",
    "ERR Error running script (call to f_1f3): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
  ],
  ["no-replicas", "NOREPLICAS Not enough good replicas to write."],
  ["out-of-memory", "OOM command not allowed when used memory > 'maxmemory'. script: 1f3, on @user_script:1."],
  ["disk", "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk."],
  ["cluster-down", "CLUSTERDOWN Hash slot not served"],
  ["cluster-down", "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."],
  ["busy", "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."],
  ["full", "ERR max number of clients reached"],
  ["too-old", "ERR unknown command 'LPOS', with args beginning with: "],
  ["away", "connect ECONNREFUSED 127.0.0.1:6379"],
  ["away", "Connection is closed."],
  ["away", "Stream isn't writeable and enableOfflineQueue options is false"],
  ["away", "Command timed out"],
  ["away", "getaddrinfo ENOTFOUND redis.example.org"],
  ["away", "All sentinels are unreachable. Retrying from scratch after 10ms."],
];

test("each thing that is said has its cause", () => {
  for (const [kind, text] of SAID) assert.equal(redisFailure(new Error(text))?.kind, kind, text);
  assert.equal(redisFailure(Object.assign(new AggregateError([], ""), { code: "ECONNREFUSED" }))?.kind, "away");
});

test("what says nothing about Redis' condition is no failure of it", () => {
  for (const text of [
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "Missing lock for job 7. moveToFinished",
    "boom",
  ])
    assert.equal(redisFailure(new Error(text)), null, text);
});

test("an error names what was tried, the cause in plain words, what was said, and what to do", () => {
  const failure = redisFailure(new Error("MOVED 3999 10.0.0.7:6379"));
  assert.ok(failure !== null);
  const error = new RedisError("adding job a", failure, new Error("MOVED 3999 10.0.0.7:6379"));
  assert.match(error.message, /^adding job a: this Redis is a node of a cluster .* \(MOVED 3999 10\.0\.0\.7:6379\); set REDIS_URL to /);
  assert.equal(redisFailure(error), failure, "it keeps its cause");
});
