import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WAIT_MS } from "./system.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** stdout and stderr. */
  readonly text: string;
}

export interface Started {
  readonly ended: Promise<Ended>;
  /** Resolves once what was written so far passes. */
  until(matches: RegExp): Promise<RegExpExecArray>;
  kill(signal: NodeJS.Signals): void;
}

/** Programs that are started in a folder of their own, and servers that answer them wrongly. */
export class StartRig implements AsyncDisposable {
  readonly dir: string;
  readonly #servers: Server[] = [];
  readonly #started = new Set<Started>();
  #count = 0;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async open(): Promise<StartRig> {
    return new StartRig(await mkdtemp(join(tmpdir(), "dryapi-start-")));
  }

  /** `dryapi <args>` with nothing in its environment but a home, free ports and `env`. */
  async start(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Started> {
    this.#count += 1;
    const home = join(this.dir, `home-${this.#count}`);
    await mkdir(home);
    const full = {
      PATH: process.env["PATH"] ?? "",
      HOME: home,
      DRYAPI_STATE_DIR: join(home, "state"),
      DRYAPI_DEVICE: "cpu",
      DRYAPI_HTTP_PORT: "0",
      DRYAPI_ADMIN_PORT: "0",
      DRYAPI_SPOOL_MIN_FREE_BYTES: "0",
      DRYAPI_PUBLIC_URL: "https://api.example.org",
      // Programs of one Redis would meet by their name.
      DRYAPI_WORKER_NAME: `w${this.#count}`,
      ...env,
    };
    const started = watch(spawn(process.execPath, [CLI, ...args], { env: full, stdio: ["ignore", "pipe", "pipe"] }));
    this.#started.add(started);
    void started.ended.then(() => this.#started.delete(started));
    return started;
  }

  /** Accepts connections; `answer` is what it says to whatever it hears, null for nothing. `connected` resolves with the first. */
  async server(answer: string | null = null): Promise<{ readonly port: number; readonly connected: Promise<void> }> {
    const { promise: connected, resolve } = Promise.withResolvers<void>();
    const server = createServer((socket) => {
      resolve();
      socket.on("error", () => socket.destroy());
      socket.on("data", () => answer !== null && socket.end(answer));
    });
    server.listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    this.#servers.push(server);
    return { port: (server.address() as AddressInfo).port, connected };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ends = [...this.#started].map(({ ended }) => ended);
    for (const { kill } of this.#started) kill("SIGKILL");
    await Promise.all(ends);
    for (const server of this.#servers) server.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}

/** Follows what a program says until it ends. One that does not end by itself is killed, and says so. */
export function watch(child: ReturnType<typeof spawn>): Started {
  let text = "";
  const waiting = new Set<() => void>();
  const wake = (): void => waiting.forEach((each) => each());
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      wake();
    });
  }
  const limit = setTimeout(() => {
    text += `\n(killed: it had not ended after ${WAIT_MS} ms)`;
    child.kill("SIGKILL");
  }, WAIT_MS);
  const ended = new Promise<Ended>((resolve) =>
    child.once("close", (code: number | null, signal: NodeJS.Signals | null) => resolve({ code, signal, text })),
  );
  void ended.then(() => {
    clearTimeout(limit);
    wake();
  });
  const until = async (matches: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const found = matches.exec(text);
      if (found !== null) return found;
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it ended without saying ${matches}:\n${text}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      waiting.add(resolve);
      await promise;
      waiting.delete(resolve);
    }
  };
  return { ended, until, kill: (signal) => void child.kill(signal) };
}
