import { spawn, type ChildProcess } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { createInterface } from "node:readline";
import { exitOf } from "./service.ts";

/** A network that only the programs of one proof see: its loopback has every port free. */
export class PrivateNetwork implements AsyncDisposable {
  readonly #redis: ChildProcess;
  /** A command prefix: what follows runs in this network. */
  readonly enter: readonly string[];

  private constructor(redis: ChildProcess) {
    this.#redis = redis;
    this.enter = ["nsenter", `--net=/proc/${redis.pid}/ns/net`];
  }

  /** With a real redis-server on 127.0.0.1:6379, set up as `dryapi doctor` wants it. */
  static async withRedis(dir: string): Promise<PrivateNetwork> {
    await mkdir(dir, { recursive: true });
    const redis = [
      "redis-server",
      "--bind",
      "127.0.0.1",
      "--port",
      "6379",
      "--dir",
      dir,
      "--appendonly",
      "yes",
      "--maxmemory-policy",
      "noeviction",
    ];
    const child = spawn("unshare", ["--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", ...redis], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await lineOf("redis-server", child, (line) => line.includes("Ready to accept connections"));
    return new PrivateNetwork(child);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = exitOf(this.#redis);
    this.#redis.kill("SIGKILL");
    await ended;
  }
}

async function lineOf(name: string, child: ChildProcess, matches: (line: string) => boolean): Promise<void> {
  const said: string[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  if (child.stdout !== null)
    createInterface({ input: child.stdout }).on("line", (line) => {
      said.push(line);
      if (matches(line)) resolve();
    });
  void exitOf(child).then((code) => reject(new Error(`${name} ended with ${code}: ${said.join("\n")}`)));
  await promise;
}
