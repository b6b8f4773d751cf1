import assert from "node:assert/strict";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import type { Redis } from "ioredis";
import { RedisError, type RedisFailureKind } from "../core/redis-failure.ts";
import { keysFor } from "../protocol/keys.ts";
import { until, within } from "../../test/support/redis-rig.ts";
import { startRedisServer, type RedisServer } from "../../test/support/redis-server.ts";
import { connectRedis, type RedisRole } from "./connect-redis.ts";
import { openRedisHealth, type RedisCheck, type RedisHealth } from "./redis-health.ts";

const ROLES: readonly RedisRole[] = ["worker", "producer"];
const keys = keysFor("dryapi");
const open: Redis[] = [];
const servers: RedisServer[] = [];

after(async () => {
  for (const redis of open) redis.disconnect();
  for (const server of servers) await server[Symbol.asyncDispose]();
});

async function serve(...lines: readonly string[]): Promise<RedisServer> {
  const server = await startRedisServer(...lines);
  servers.push(server);
  return server;
}

function connect(url: string, role: RedisRole = "worker"): Redis {
  const redis = connectRedis({ url, role });
  open.push(redis);
  return redis;
}

function healthOf(url: string, role: RedisRole = "worker", patienceMs?: number): RedisHealth {
  return openRedisHealth({ redis: connect(url, role), keys, ...(patienceMs !== undefined && { patienceMs }) });
}

async function command(url: string, ...words: readonly [string, ...string[]]): Promise<void> {
  const redis = connect(url);
  const [name, ...args] = words;
  await redis.call(name, ...args);
  redis.disconnect();
}

/** In every role, at the first look and at later ones: the same cause, in an error and in a health report. */
async function fails(url: string, kind: RedisFailureKind, words: RegExp): Promise<void> {
  for (const role of ROLES) {
    const health = healthOf(url, role);
    // A server that is away is tried at longer and longer intervals.
    for (let look = 0; look < (kind === "away" || kind === "tls" ? 1 : 2); look += 1) {
      await assert.rejects(health.prove(), (error) => {
        assert.ok(error instanceof RedisError, String(error));
        assert.equal(error.failure.kind, kind, error.message);
        assert.equal(error.code, "REDIS_UNAVAILABLE");
        return true;
      });
      const { ok, detail } = await health.check();
      assert.equal(ok, false);
      assert.match(detail, words);
    }
  }
}

/** A start ends at once, or keeps waiting: with no patience it ends too. */
async function startEnds(url: string, waits: boolean): Promise<void> {
  const told: RedisCheck[] = [];
  const stop = new AbortController();
  const health = healthOf(url, "worker", waits ? 600_000 : 0);
  const admission = health.admit({
    signal: stop.signal,
    onWait: (check) => {
      told.push(check);
      stop.abort();
    },
  });
  if (waits) {
    await within("a start that waits", admission);
    assert.equal(told.length, 1, "it waited, and said why");
    await assert.rejects(healthOf(url, "worker", 0).admit({ signal: new AbortController().signal, onWait: () => undefined }), RedisError);
  } else {
    await assert.rejects(within("a start that ends", admission), RedisError);
    assert.deepEqual(told, []);
  }
}

describe("what keeps Redis from working is named", () => {
  test("nothing: a write went through, and it expires", async () => {
    const { url } = await serve();
    const health = healthOf(url);
    assert.match((await health.check()).detail, /test write took/);
    await health.admit({ signal: new AbortController().signal, onWait: () => assert.fail("nothing to wait for") });
    const ttl = await connect(url).pttl(keys.probe);
    assert.ok(ttl > 0);
  });

  test("a wrong password, and none where one is wanted", async () => {
    const { urlAs, url } = await serve("requirepass s3cret-password");
    await fails(urlAs(":wrong-password"), "wrong-password", /refuses the password .*REDIS_URL/);
    await fails(url, "no-password", /wants a password and REDIS_URL has none/);
    await startEnds(url, false);
    assert.equal((await healthOf(urlAs(":s3cret-password")).check()).ok, true);
  });

  test("a user without permissions", async () => {
    const { urlAs } = await serve("user reader on >reader-password ~* &* +@read +@connection +info");
    await fails(urlAs("reader:reader-password"), "no-permission", /may not run a command/);
    await startEnds(urlAs("reader:reader-password"), false);
  });

  test("a replica: waited for at a start, since a failover may be under way", async () => {
    const primary = await serve();
    const replica = await serve("replicaof 127.0.0.1 1", "replica-serve-stale-data yes");
    await fails(replica.url, "read-only", /replica that takes no writes .*primary/);
    await startEnds(replica.url, true);
    assert.equal((await healthOf(primary.url).check()).ok, true);
  });

  test("a primary that is demoted and promoted again while a program runs", async () => {
    const { url } = await serve();
    const health = healthOf(url);
    assert.equal((await health.check()).ok, true);
    await command(url, "REPLICAOF", "127.0.0.1", "1");
    assert.match((await health.check()).detail, /replica that takes no writes/);
    await command(url, "REPLICAOF", "NO", "ONE");
    await becomesWell(health);
  });

  test("no memory left, and room again", async () => {
    const { url } = await serve("maxmemory 1", "maxmemory-policy noeviction");
    await fails(url, "out-of-memory", /out of memory \(maxmemory\)/);
    await startEnds(url, true);
    const health = healthOf(url);
    await command(url, "CONFIG", "SET", "maxmemory", "0");
    await becomesWell(health);
  });

  test("a disk that cannot be written", async () => {
    const { url, dataDir } = await serve("save 3600 1000000", "stop-writes-on-bgsave-error yes");
    // Its working folder is gone: the snapshot fails.
    await rm(dataDir, { recursive: true });
    const redis = connect(url);
    await redis.bgsave();
    await until("the failed snapshot", async () => (await redis.info("persistence")).includes("rdb_last_bgsave_status:err"));
    await fails(url, "disk", /cannot write to its disk/);
    await startEnds(url, true);
  });

  test("a cluster node: without a slot it is down", async () => {
    const { url } = await serve("cluster-enabled yes", "port 0");
    await fails(url, "cluster-down", /cluster.* is down/);
    await startEnds(url, true);
  });

  test("a database that the server does not have: ioredis would go on in database 0", async () => {
    const { url } = await serve("databases 2");
    await fails(`${url}?db=7`, "wrong-db", /no database of that number/);
    await startEnds(`${url}?db=7`, false);
    assert.equal((await healthOf(`${url}?db=1`).check()).ok, true);
  });

  test("a server that is not there: a start goes on without it", async () => {
    const url = "redis://127.0.0.1:1";
    await fails(url, "away", /does not answer .*ECONNREFUSED/);
    const health = healthOf(url);
    await health.admit({ signal: new AbortController().signal, onWait: () => assert.fail("it is not waited for") });
  });

  test("a server that speaks no TLS", async () => {
    const plain = createServer((socket: Socket) => socket.on("error", () => undefined).end("-ERR unknown command\r\n"));
    plain.listen(0, "127.0.0.1");
    await once(plain, "listening");
    try {
      await fails(`rediss://127.0.0.1:${(plain.address() as AddressInfo).port}`, "tls", /no TLS connection/);
    } finally {
      plain.close();
    }
  });

  test("a server that is still loading its data", async () => {
    const first = await serve("save 3600 1000000");
    const redis = connect(first.url);
    await redis.mset(...Array.from({ length: 200 }, (_, index) => [`key-${index}`, "x"]).flat());
    await redis.save();
    const slow = await serve(
      "port 0",
      "dbfilename dump.rdb",
      "key-load-delay 1000000",
      "loading-process-events-interval-bytes 1024",
      `dir ${first.dataDir}`,
    );
    assert.match((await healthOf(slow.url).check()).detail, /Redis is loading its data from disk/);
  });

  test("watching tells each change once, with its cause", async () => {
    const { url } = await serve();
    const stop = new AbortController();
    const told: RedisCheck[] = [];
    const health = openRedisHealth({ redis: connect(url), keys, watchEveryMs: 1 });
    await command(url, "REPLICAOF", "127.0.0.1", "1");
    const watching = health.watch((check) => {
      told.push(check);
      if (check.ok) stop.abort();
      else void command(url, "REPLICAOF", "NO", "ONE");
    }, stop.signal);
    await within("both changes", watching);
    assert.deepEqual(
      told.map(({ ok }) => ok),
      [false, true],
    );
  });
});

/** The connection may still be on its way back. */
async function becomesWell(health: RedisHealth): Promise<void> {
  await until("a Redis that works", async () => (await health.check()).ok);
}
