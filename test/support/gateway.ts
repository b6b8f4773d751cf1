import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { openClients, type NewClient } from "../../src/state/open-clients.ts";
import { WAIT_MS, type TestSystem } from "./system.ts";

const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");

/** A real `dryapi gateway` process on a system's Redis and store. */
export interface GatewayProcess extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  /** SIGTERM; resolves to the exit code. */
  stop(): Promise<number | null>;
  kill9(): Promise<void>;
}

/** `within`: a command that becomes what follows it, in surroundings of its own: `unshare` with mounts. */
export async function startGateway(
  system: TestSystem,
  env: Readonly<Record<string, string>> = {},
  cli: string = CLI,
  within: readonly string[] = [],
): Promise<GatewayProcess> {
  const [program = process.execPath, ...args] = [...within, process.execPath, cli, "gateway"];
  const child = spawn(program, args, {
    env: { ...system.env, DRYAPI_HTTP_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const lines: Record<string, unknown>[] = [];
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const exited = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const { promise: ready, resolve, reject } = Promise.withResolvers<string>();
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = JSON.parse(text) as Record<string, unknown>;
    lines.push(line);
    if (line["msg"] === "gateway ready") resolve(String(line["url"]));
  });
  void exited.then((code) => reject(new Error(`the gateway ended (code ${code}): ${stderr}${JSON.stringify(lines.slice(-5))}`)));
  const timer = setTimeout(() => reject(new Error(`the gateway was not ready within ${WAIT_MS} ms`)), WAIT_MS);
  const kill9 = async (): Promise<void> => {
    child.kill("SIGKILL");
    await exited;
  };
  try {
    const url = await ready;
    return {
      url,
      pid: child.pid ?? 0,
      lines,
      stop: async () => {
        child.kill("SIGTERM");
        return exited;
      },
      kill9,
      [Symbol.asyncDispose]: kill9,
    };
  } catch (thrown) {
    await kill9();
    throw thrown;
  } finally {
    clearTimeout(timer);
  }
}

/** Adds a client; returns its key. */
export async function addClient(system: TestSystem, client: Partial<NewClient> = {}): Promise<string> {
  return (await openClients({ redis: system.client, keys: system.keys }).add({ name: "test", id: "tester", ...client })).key;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: AnswerBody;
}

/** What the tests look at in a body; that it is there is theirs to check. */
export interface AnswerBody {
  readonly message: string;
  readonly errors: Readonly<Record<string, readonly string[]>>;
  readonly data: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

/** Requests as an API client sends them. */
export class ApiClient {
  readonly #base: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: string, key: string | null) {
    this.#base = url;
    this.#headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  }

  async send(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    const isPlain = body === undefined || body instanceof FormData || body instanceof URLSearchParams || typeof body === "string";
    const response = await fetch(path.startsWith("http") ? path : `${this.#base}${path}`, {
      method,
      redirect: "manual",
      headers: { ...this.#headers, ...(isPlain ? {} : { "Content-Type": "application/json" }), ...headers },
      ...(body === undefined ? {} : { body: isPlain ? (body as string) : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json") === true;
    return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : { text }) as AnswerBody };
  }

  get(path: string): Promise<Answer> {
    return this.send("GET", path);
  }

  post(path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.send("POST", `/api/v1/client/${path}`, body, headers);
  }

  /** Submits and returns the id; anything but 200 fails the test. */
  async submit(task: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<string> {
    const answer = await this.post(task, body, headers);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return String(answer.body.data["request_id"]);
  }

  async status(id: string): Promise<Readonly<Record<string, unknown>>> {
    const answer = await this.get(`/api/v1/client/request-status/${id}`);
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    return answer.body.data;
  }
}

/** The status of a request once it is done or has failed. */
export function endOf(system: TestSystem, api: ApiClient, id: string): Promise<Readonly<Record<string, unknown>>> {
  return system.until("the end of the request", async () => {
    const now = await api.status(id);
    return now["status"] === "done" || now["status"] === "error" ? now : undefined;
  });
}
