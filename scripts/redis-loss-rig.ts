/** Real redis-servers, sentinels, a gateway and a worker for scripts/redis-loss.ts, and clients that submit without pause. */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { freePort } from "../test/support/free-port.ts";

const CLI = join(import.meta.dirname, "..", "src", "cli.ts");
const WAIT_MS = 120_000;
/** Clients that submit at the same time. */
export const CLIENTS = 4;
/** Everything of one run lies here. */
export const dir: string = await mkdtemp(join(tmpdir(), "dryapi-loss-"));
const children = new Set<ChildProcess>();

interface Accepted {
  readonly id: string;
  /** By `performance.now()`. */
  readonly at: number;
}

/** Requests that a system accepted while clients submitted without pause. */
export class Load {
  readonly accepted: Accepted[] = [];
  /** Answers other than 200, by status; 0 = no answer. */
  readonly refused = new Map<number, number>();
  readonly #stop = new AbortController();
  readonly #running: readonly Promise<void>[];
  readonly #url: string;
  readonly #key: string;

  constructor(url: string, key: string) {
    this.#url = url;
    this.#key = key;
    this.#running = Array.from({ length: CLIENTS }, () => this.#run());
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        const answer = await fetch(`${this.#url}/api/v1/client/txt2img`, {
          method: "POST",
          headers: { authorization: `Bearer ${this.#key}`, "content-type": "application/json" },
          body: JSON.stringify({ model: "fake", prompt: "loss", width: 512, height: 512, seed: 1, steps: 0 }),
        });
        const body = (await answer.json()) as { readonly data?: { readonly request_id: string } };
        if (answer.ok && body.data !== undefined) this.accepted.push({ id: body.data.request_id, at: performance.now() });
        else {
          this.refused.set(answer.status, (this.refused.get(answer.status) ?? 0) + 1);
          await wait(20);
        }
      } catch {
        this.refused.set(0, (this.refused.get(0) ?? 0) + 1);
        await wait(20);
      }
    }
  }

  /** Resolves once `count` more requests than now were accepted. */
  async accepts(count: number): Promise<void> {
    const goal = this.accepted.length + count;
    await until(`${count} more accepted requests`, () => this.accepted.length >= goal);
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#running);
  }

  /** The longest time between two accepted requests, seconds. */
  get longestGapSeconds(): number {
    const times = this.accepted.map(({ at }) => at);
    return Math.max(0, ...times.slice(1).map((at, i) => at - (times[i] ?? at))) / 1_000;
  }
}

export interface System {
  readonly url: string;
  readonly key: string;
  readonly end: () => Promise<void>;
}

export async function startSystem(name: string, redisUrl: string): Promise<System> {
  const home = join(dir, name);
  await mkdir(home, { recursive: true });
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    REDIS_URL: redisUrl,
    DRYAPI_STATE_DIR: join(home, "state"),
    DRYAPI_STORE: pathToFileURL(join(home, "objects")).href,
    DRYAPI_DEVICE: "cpu",
    DRYAPI_ADMIN_PORT: "0",
    DRYAPI_HTTP_PORT: "0",
    DRYAPI_MODELS: "fake",
    DRYAPI_TEST_MODELS: "on",
    DRYAPI_RATE_PER_MINUTE: "0",
    DRYAPI_LOCK_MS: "5s",
    DRYAPI_STALLED_INTERVAL_MS: "2s",
  };
  const { stdout } = await promisify(execFile)(process.execPath, [CLI, "clients", "add", name], { env });
  const key = /[a-z0-9_-]+\|[A-Za-z0-9_-]{20,}/.exec(stdout)?.[0];
  if (key === undefined) throw new Error(`no key in the output of dryapi clients add: ${stdout}`);
  const gateway = start([CLI, "gateway"], env);
  const worker = start([CLI, "worker"], env);
  const [ready] = await Promise.all([said(gateway, '"gateway ready"'), said(worker, '"worker ready"')]);
  const { url } = JSON.parse(ready) as { readonly url: string };
  return { url, key, end: async () => void (await Promise.all([end(gateway, "SIGTERM"), end(worker, "SIGTERM")])) };
}

/** What became of the accepted requests: how many are unknown now, and how many have not ended well. Waits for those under way. */
export async function audit(
  { url, key }: System,
  accepted: readonly Accepted[],
): Promise<{ readonly lost: number; readonly failed: number }> {
  let lost = 0;
  let failed = 0;
  for (const { id } of accepted) {
    await until(`the end of ${id}`, async () => {
      const answer = await fetch(`${url}/api/v1/client/request-status/${id}`, { headers: { authorization: `Bearer ${key}` } });
      if (answer.status === 404) {
        lost += 1;
        return true;
      }
      const { data } = (await answer.json()) as { readonly data?: { readonly status: string } };
      if (data?.status === "error") failed += 1;
      return data?.status === "done" || data?.status === "error";
    });
  }
  return { lost, failed };
}

export interface Server {
  readonly port: number;
  readonly process: ChildProcess;
  readonly redis: Redis;
  readonly data: string;
}

export async function startServer(name: string, lines: readonly string[], at?: number): Promise<Server> {
  const port = at ?? (await freePort());
  const data = join(dir, name);
  await mkdir(data, { recursive: true });
  const config = [`port ${port}`, "bind 127.0.0.1", `dir ${data}`, "appendonly yes", "appendfsync everysec", 'save ""', ...lines];
  await writeFile(join(data, "redis.conf"), `${config.join("\n")}\n`);
  const server = start([join(data, "redis.conf")], process.env, "redis-server");
  await said(server, "Ready to accept connections");
  return { port, process: server, redis: new Redis(port, "127.0.0.1", { lazyConnect: false }).on("error", () => undefined), data };
}

export async function startSentinels(primary: number): Promise<readonly number[]> {
  const ports: number[] = [];
  for (let i = 0; i < 3; i++) {
    const port = await freePort();
    const home = join(dir, `sentinel-${port}`);
    await mkdir(home);
    const config = [
      `port ${port}`,
      "bind 127.0.0.1",
      `dir ${home}`,
      `sentinel monitor main 127.0.0.1 ${primary} 2`,
      "sentinel down-after-milliseconds main 1000",
      "sentinel failover-timeout main 10000",
    ];
    await writeFile(join(home, "sentinel.conf"), `${config.join("\n")}\n`);
    await said(start([join(home, "sentinel.conf"), "--sentinel"], process.env, "redis-server"), "+monitor");
    ports.push(port);
  }
  const [first = 0] = ports;
  const sentinel = new Redis(first, "127.0.0.1");
  const knows = async (what: string): Promise<number> => ((await sentinel.call("SENTINEL", what, "main")) as readonly unknown[]).length;
  await until(
    "sentinels that know each other and the replica",
    async () => (await knows("sentinels")) === 2 && (await knows("replicas")) === 1,
  );
  sentinel.disconnect();
  return ports;
}

function start(args: readonly string[], env: NodeJS.ProcessEnv, program: string = process.execPath): ChildProcess {
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "inherit"] });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
}

/** The first line of its output that holds the text. */
async function said(child: ChildProcess, text: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const recent: string[] = [];
  if (child.stdout === null) throw new Error("no output to read");
  createInterface({ input: child.stdout }).on("line", (each) => {
    recent.push(each);
    if (each.includes(text)) resolve(each);
  });
  child.once("exit", () => reject(new Error(`${child.spawnargs.join(" ")} ended before it said ${text}:\n${recent.slice(-5).join("\n")}`)));
  return promise;
}

export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  child.kill(signal);
  await exited;
}

export async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const start = performance.now(); !(await Promise.resolve(isSo()).catch(() => false));) {
    if (performance.now() - start > WAIT_MS) throw new Error(`waited ${WAIT_MS} ms in vain for ${what}`);
    await wait(50);
  }
}

/** Kills what still runs and removes the folder. */
export async function clearUp(): Promise<void> {
  await Promise.all([...children].map((child) => end(child, "SIGKILL")));
  await rm(dir, { recursive: true, force: true });
}
