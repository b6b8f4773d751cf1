import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { Redis } from "ioredis";
import { within as endsWithin } from "../../src/lib/within.ts";
import { JOB_VERSION, type JobData } from "../../src/protocol/job.ts";
import { keysFor, type Keys } from "../../src/protocol/keys.ts";
import { RESULT_VERSION, type JobResult } from "../../src/protocol/result.ts";
import { openQueues, type QueuesOptions } from "../../src/queue/open-queues.ts";
import type { Claim, Queues } from "../../src/queue/queue-types.ts";
import { connectRedis, type RedisRole } from "../../src/state/connect-redis.ts";
import { startPrivateRedis, type PrivateRedis } from "../../src/state/private-redis.ts";

/** Every wait ends: a test that waits in vain fails with what it waited for. */
const WAIT_MS = 60_000;

/** A redis-server of a test file's own in a temporary folder, and all connections to it. */
export class RedisRig implements AsyncDisposable {
  readonly dir: string;
  server: PrivateRedis;
  readonly #connections: Redis[] = [];
  #namespaces = 0;

  constructor(dir: string, server: PrivateRedis) {
    this.dir = dir;
    this.server = server;
  }

  /** Keys that no other test of the file uses. */
  namespace(): Keys {
    this.#namespaces += 1;
    return keysFor(`t${this.#namespaces}`);
  }

  /** Connected. `commandTimeoutMs`: when a command is given up, if not after the role's time. */
  async connect(role: RedisRole = "worker", commandTimeoutMs?: number): Promise<Redis> {
    const redis = connectRedis({ url: this.server.url, role });
    if (commandTimeoutMs !== undefined) redis.options.commandTimeout = commandTimeoutMs;
    this.#connections.push(redis);
    await within("a connection", ready(redis));
    return redis;
  }

  /** Queues of one daemon on a connection of their own. Locks last long enough never to expire in a test that does not take them away. */
  async queues(keys: Keys, options: Partial<QueuesOptions> = {}): Promise<Queues> {
    const redis = options.redis ?? (await this.connect());
    return openQueues({
      keys,
      lockMs: 60_000,
      stalledIntervalMs: 60_000,
      maxStalled: 1,
      retentionMs: 60_000,
      workerName: "w1",
      ...options,
      redis,
    });
  }

  /** As a crash would end it, and started again on the same files. */
  async restart(): Promise<void> {
    await this.server.kill9();
    this.server = await startPrivateRedis({ dir: this.dir });
  }

  freeze(): void {
    process.kill(this.server.pid, "SIGSTOP");
  }

  thaw(): void {
    process.kill(this.server.pid, "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const redis of this.#connections) redis.disconnect();
    await this.server.kill9();
    await rm(this.dir, { recursive: true, force: true });
  }
}

export async function startRedisRig(): Promise<RedisRig> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-redis-test-"));
  try {
    const rig = new RedisRig(dir, await startPrivateRedis({ dir }));
    await writeThrough(await rig.connect("producer"));
    return rig;
  } catch (thrown) {
    await rm(dir, { recursive: true, force: true });
    throw thrown;
  }
}

/**
 * From now on what was answered survives `kill -9` of the server. As it is set up, every second, it may hold back the writes of two
 * seconds while the disk is slow.
 */
export async function writeThrough(redis: Redis): Promise<void> {
  await redis.config("SET", "appendfsync", "always");
}

/** Resolves when the connection is there, now or after a reconnect. */
export async function ready(redis: Redis): Promise<void> {
  if (redis.status === "ready") return;
  await within("a connection that is ready", new Promise<void>((resolve) => redis.once("ready", () => resolve())));
}

/** Resolves when ioredis knows that the connection is gone. */
export async function lost(redis: Redis): Promise<void> {
  await until("the end of the connection", () => redis.status !== "ready");
}

/** Looks again until the answer is neither null nor false. */
export async function until<T>(what: string, look: () => T | Promise<T>): Promise<Exclude<T, null | false>> {
  for (const end = performance.now() + WAIT_MS; ;) {
    const found = await look();
    if (found !== null && found !== false) return found as Exclude<T, null | false>;
    if (performance.now() > end) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}`);
    await wait(5);
  }
}

export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  return endsWithin(promise, { ms: WAIT_MS, late: () => new Error(`waited ${WAIT_MS} ms in vain for ${what}`) });
}

/** Gone, or a zombie that nobody waits for. */
export async function isGone(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return stat === null || stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z");
}

export function jobData(id: string, model: string = "m"): JobData {
  return {
    v: JOB_VERSION,
    id,
    task: "txt2img",
    model,
    client: "c1",
    params: { prompt: id },
    inputs: [],
    timeoutMs: 60_000,
    submittedAt: 1,
  };
}

export function jobResult(claim: number): JobResult {
  const timings = { queueMs: 1, loadMs: 2, inputMs: 3, runMs: 4, encodeMs: 5, uploadMs: 6 };
  return { v: RESULT_VERSION, files: [], claim, seed: 7, timings, info: { width: 64 }, worker: "w1", device: "cpu:0", finishedAt: 1_000 };
}

/** Claims a job that must be there. */
export async function claimed(queues: Queues, model: string = "m"): Promise<Claim> {
  const claim = await queues.claim(model);
  if (claim === null) throw new Error(`queue ${model} had no job to claim`);
  return claim;
}
