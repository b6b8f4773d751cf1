import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import type { Redis } from "ioredis";
import type { JobEvent } from "../../src/protocol/event.ts";
import { JOB_VERSION, type JobData, type JobParams } from "../../src/protocol/job.ts";
import { keysFor, type Keys } from "../../src/protocol/keys.ts";
import { REQUEST_VERSION } from "../../src/protocol/request.ts";
import type { Task } from "../../src/protocol/task.ts";
import { openQueues } from "../../src/queue/open-queues.ts";
import type { JobView } from "../../src/core/job-state.ts";
import type { Queues } from "../../src/queue/queue-types.ts";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { openEmitter } from "../../src/state/open-emitter.ts";
import { openRequestIndex, type RequestIndex } from "../../src/state/open-request-index.ts";
import { openRequests } from "../../src/state/open-requests.ts";
import { startPrivateRedis, type PrivateRedis } from "../../src/state/private-redis.ts";
import { openCancelChannel } from "../../src/state/open-cancel-channel.ts";
import { readLive } from "../../src/state/read-live.ts";
import type { CancelChannel, Requests } from "../../src/state/state-types.ts";
import { cancelJob } from "../../src/requests/cancel-job.ts";
import { writeThrough } from "./redis-rig.ts";
import { closeGate, setFloor, stageGate, type Gate } from "./pace.ts";

const CLIENT = "tester";
/** Every wait ends: a test that waits in vain fails with what it waited for, and its processes are disposed. */
export const WAIT_MS = 120_000;
const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
/** A worker whose runners keep the pace of the test, whatever their model: see `stage` and pace.ts. */
export const PACED_WORKER: string = join(import.meta.dirname, "..", "fixtures", "paced-worker.ts");

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/** A real `dryapi worker` process and its log. */
export interface WorkerProcess {
  readonly process: ChildProcess;
  readonly pid: number;
  readonly admin: string;
  readonly lines: readonly LogLine[];
  /** The first line, past or to come, that passes. */
  line(matches: (line: LogLine) => boolean): Promise<LogLine>;
  /** SIGTERM; resolves to the exit code. */
  stop(): Promise<number | null>;
  kill9(): Promise<void>;
}

/** A whole system in a temporary folder: private redis-server, file store, spool, any number of workers. */
export class TestSystem implements AsyncDisposable {
  readonly dir: string;
  readonly keys: Keys = keysFor("test");
  readonly env: Record<string, string>;
  readonly #cli: string;
  redis: PrivateRedis;
  #redisIsUp = true;
  readonly client: Redis;
  readonly events: JobEvent[] = [];
  readonly queues: Queues;
  readonly requests: Requests;
  readonly index: RequestIndex;
  readonly #cancels: CancelChannel;
  readonly #subscriber: Redis;
  readonly #waiters = new Set<() => void>();
  readonly #workers = new Set<WorkerProcess>();

  constructor(dir: string, redis: PrivateRedis, env: Record<string, string>, cli: string) {
    this.dir = dir;
    this.#cli = cli;
    this.redis = redis;
    this.client = connectRedis({ url: redis.url, role: "worker" });
    this.#subscriber = connectRedis({ url: redis.url, role: "subscriber" });
    const shared = { redis: this.client, keys: this.keys };
    this.queues = openQueues({
      ...shared,
      lockMs: WAIT_MS,
      stalledIntervalMs: 1_000,
      maxStalled: 2,
      retentionMs: 3_600_000,
      workerName: "test",
    });
    this.requests = openRequests({ ...shared, retentionMs: 3_600_000 });
    this.index = openRequestIndex(shared);
    this.#cancels = openCancelChannel({ ...shared, subscriber: this.#subscriber });
    this.env = {
      PATH: process.env["PATH"] ?? "",
      HOME: dir,
      // Gates and counted faults of the fake model lie here.
      TMPDIR: join(dir, "tmp"),
      REDIS_URL: redis.url,
      DRYAPI_NAMESPACE: "test",
      DRYAPI_STATE_DIR: join(dir, "state"),
      DRYAPI_STORE: pathToFileURL(join(dir, "objects")).href,
      DRYAPI_DEVICE: "cpu",
      DRYAPI_ADMIN_PORT: "0",
      // As long as any wait of a test: no stall of the machine lets a lock expire. A test about locks that do sets its own.
      DRYAPI_LOCK_MS: `${WAIT_MS}ms`,
      DRYAPI_STALLED_INTERVAL_MS: "1s",
      DRYAPI_SPOOL_MIN_FREE_BYTES: "0",
      DRYAPI_CANCEL_GRACE_MS: "500ms",
      DRYAPI_SHUTDOWN_GRACE_MS: "1s",
      ...env,
    };
  }

  async subscribe(): Promise<void> {
    this.#subscriber.on("message", (_channel, text: string) => {
      this.events.push(JSON.parse(text) as JobEvent);
      for (const wake of this.#waiters) wake();
    });
    await this.#subscriber.subscribe(this.keys.events(CLIENT));
  }

  /** A closed gate for fake jobs, which name it in their `fault`. */
  gate(): Gate {
    return closeGate(undefined, this.env["TMPDIR"]);
  }

  /** The gate at which the first native run of a stage waits in batches of a PACED_WORKER, when they come to it for the n-th time: each step begins with its stage. */
  stage(name: string, nth: number): Gate {
    return closeGate(stageGate(name, nth), this.env["TMPDIR"]);
  }

  /** `cli`: another program's entry than the system's. */
  async startWorker(env: Record<string, string> = {}, cli: string = this.#cli): Promise<WorkerProcess> {
    const worker = await startWorker(cli, { ...this.env, ...env });
    this.#workers.add(worker);
    void worker.process.once("exit", () => this.#workers.delete(worker));
    return worker;
  }

  /** Of the workers that run. */
  get workerPids(): readonly number[] {
    return [...this.#workers].map(({ pid }) => pid);
  }

  /** One that is not waited for; its end is the test's. */
  spawnWorker(env: Record<string, string> = {}): Omit<WorkerProcess, "admin"> {
    return spawnWorker(this.#cli, { ...this.env, ...env });
  }

  /** Writes record and job as a gateway does; returns the id. */
  async submit(job: {
    readonly model: string;
    readonly params?: JobParams;
    readonly task?: Task;
    readonly priority?: number;
    readonly timeoutMs?: number;
  }): Promise<string> {
    const id = randomUUID();
    const priority = job.priority ?? 10;
    const submittedAt = Date.now();
    const shared = {
      id,
      task: job.task ?? "txt2img",
      model: job.model,
      client: CLIENT,
      params: job.params ?? {},
      inputs: [],
      timeoutMs: job.timeoutMs ?? 600_000,
    };
    await this.requests.create({
      ...shared,
      v: REQUEST_VERSION,
      queue: job.model,
      priority,
      webhookUrl: null,
      webhookSecretRef: null,
      createdAt: submittedAt,
      startedAt: null,
      cancelledAt: null,
    });
    const data: JobData = { ...shared, v: JOB_VERSION, submittedAt };
    await this.queues.add(data, { priority });
    return id;
  }

  /** Adds a job with any data, past all validation; returns its id. */
  async addRaw(model: string, data: Readonly<Record<string, unknown>>): Promise<string> {
    const id = randomUUID();
    await this.queues.add({ ...data, id, model } as unknown as JobData, { priority: 10 });
    return id;
  }

  async cancel(id: string): Promise<void> {
    const shared = { redis: this.client, keys: this.keys };
    const emitter = openEmitter({ ...shared, ttlMs: 3_600_000 });
    const deps = { requests: this.requests, queues: this.queues, cancels: this.#cancels, emitter };
    await cancelJob({ ...deps, readLive: (of) => readLive(this.client, this.keys, of) }, id);
  }

  /** What `look` finds, looked for after each event and at least every 100 ms. */
  async until<T>(
    what: string,
    look: () => T | undefined | Promise<T | undefined>,
    seen: () => unknown = () => this.events.slice(-10),
  ): Promise<T> {
    for (const within = deadline(what); ;) {
      const found = await look();
      if (found !== undefined) return found;
      within.check(() => JSON.stringify(seen()));
      await this.#news(100);
    }
  }

  /** The first event, past or to come, that passes. */
  event(matches: (event: JobEvent) => boolean): Promise<JobEvent> {
    return this.until(`an event for which ${matches.toString()}`, () => this.events.find(matches));
  }

  /** Resolves once the queue says that the job has ended. */
  ended(model: string, id: string): Promise<JobView> {
    let view: JobView | null = null;
    const look = async (): Promise<JobView | undefined> => {
      view = await this.queues.job(model, id).catch(() => null);
      return view?.state === "completed" || view?.state === "failed" ? view : undefined;
    };
    return this.until(`the end of job ${id} of ${model}`, look, () => view);
  }

  async state(model: string, id: string): Promise<string> {
    return (await this.queues.job(model, id))?.state ?? "gone";
  }

  /** Kills redis-server. What it has answered is in its files, however slow the disk is. */
  async killRedis(): Promise<void> {
    await writeThrough(this.client);
    await this.redis.kill9();
    this.#redisIsUp = false;
  }

  /** Kills redis-server if it still runs, and starts it again on the same files and socket. */
  async restartRedis(): Promise<void> {
    if (this.#redisIsUp) await this.killRedis();
    this.redis = await startPrivateRedis({ dir: join(this.dir, "redis") });
    this.#redisIsUp = true;
  }

  /** Object keys in the file store below a prefix. */
  async objects(prefix: string): Promise<readonly string[]> {
    const found = await readdir(join(this.dir, "objects", prefix), { recursive: true, withFileTypes: true }).catch(() => []);
    return found.filter((entry) => entry.isFile() && !entry.name.startsWith(".")).map((entry) => entry.name);
  }

  /** Resolves when no claim has a folder in the spool. They are removed just after the end of a job is told. */
  async spoolEmpty(): Promise<void> {
    let claims: readonly string[] = [];
    await this.until(
      "an empty spool",
      async () => {
        const found = await readdir(join(this.dir, "state", "spool"), { withFileTypes: true }).catch(() => []);
        claims = found.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
        return claims.length === 0 ? true : undefined;
      },
      () => claims,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const worker of this.#workers) await worker.kill9();
    this.client.disconnect();
    this.#subscriber.disconnect();
    await this.redis[Symbol.asyncDispose]();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** Resolves with the next event, at the latest after `withinMs`. */
  #news(withinMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs);
    this.#waiters.add(resolve);
    return promise.finally(() => {
      clearTimeout(timer);
      this.#waiters.delete(resolve);
    });
  }
}

/** `cli`: the program's entry; the benchmarks run the built one. */
export async function startSystem(env: Record<string, string> = {}, cli: string = CLI): Promise<TestSystem> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-sys-"));
  const redis = await startPrivateRedis({ dir: join(dir, "redis") });
  await mkdir(join(dir, "tmp"));
  setFloor(join(dir, "tmp"));
  const system = new TestSystem(dir, redis, { DRYAPI_MODELS: "fake,fake-b,tiny-flux-schnell,tiny-flux-dev", ...env }, cli);
  await system.subscribe();
  return system;
}

async function startWorker(cli: string, env: Record<string, string>): Promise<WorkerProcess> {
  const worker = spawnWorker(cli, env);
  const { admin } = await worker.line(({ msg }) => msg === "worker ready");
  assert.ok(typeof admin === "string");
  return { ...worker, admin };
}

function spawnWorker(cli: string, env: Record<string, string>): Omit<WorkerProcess, "admin"> {
  const child = spawn(process.execPath, [cli, "worker"], { env, stdio: ["ignore", "pipe", "pipe"] });
  const lines: LogLine[] = [];
  const waiters = new Set<{ readonly matches: (line: LogLine) => boolean; readonly resolve: (line: LogLine) => void }>();
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = JSON.parse(text) as LogLine;
    lines.push(line);
    for (const waiter of waiters) if (waiter.matches(line)) waiter.resolve(line);
  });
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const line = async (matches: (line: LogLine) => boolean): Promise<LogLine> => {
    const found = lines.find(matches);
    if (found !== undefined) return found;
    const { promise, resolve, reject } = Promise.withResolvers<LogLine>();
    const waiter = { matches, resolve };
    waiters.add(waiter);
    const timer = setTimeout(
      () => reject(new Error(`no log line came for which ${matches.toString()}; the last ones:\n${tail(lines)}`)),
      WAIT_MS,
    );
    void exited.then((code) => reject(new Error(`the worker ended (code ${code}) before it said so: ${stderr}\n${tail(lines)}`)));
    return promise.finally(() => {
      clearTimeout(timer);
      waiters.delete(waiter);
    });
  };
  return {
    process: child,
    pid: child.pid ?? 0,
    lines,
    line,
    stop: async () => {
      child.kill("SIGTERM");
      return exited;
    },
    kill9: async () => {
      child.kill("SIGKILL");
      await exited;
    },
  };
}

/** A bound for a wait that looks again and again. */
function deadline(what: string): { check(seen: () => string): void } {
  const until = performance.now() + WAIT_MS;
  return {
    check: (seen) => {
      if (performance.now() > until) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}; seen: ${seen()}`);
    },
  };
}

function tail(lines: readonly LogLine[]): string {
  return lines
    .slice(-10)
    .map((line) => JSON.stringify(line))
    .join("\n");
}

/** Pids of this machine's processes whose parent is `pid`, from /proc. */
export async function childrenOf(pid: number): Promise<readonly number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.split(" ").filter(Boolean).map(Number);
}

/** Resolves once the process is gone (or a zombie nobody waits for). */
export async function gone(pid: number): Promise<void> {
  for (const within = deadline(`the end of process ${pid}`); ;) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
    if (stat === null || stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")) return;
    within.check(() => stat);
    await wait(10);
  }
}
