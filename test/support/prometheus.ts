import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { WAIT_MS } from "./system.ts";

export interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly values: readonly (readonly [at: number, value: string])[];
}

export interface LoadedRule {
  readonly name: string;
  readonly query: string;
  /** Seconds. */
  readonly duration: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface ScrapeTarget {
  /** `host:port`. */
  readonly address: string;
  /** What it is called in the label `instance`. */
  readonly instance: string;
}

export interface PrometheusOptions {
  readonly targets?: readonly ScrapeTarget[];
  readonly ruleFiles?: readonly string[];
  readonly scrapeSeconds?: number;
}

/** A real Prometheus on 127.0.0.1 with a folder of its own. */
export interface Prometheus extends AsyncDisposable {
  /** Null, or what it says against the expression. */
  complaint(expr: string): Promise<string | null>;
  /** Over the last `seconds`, a value every `stepSeconds`. */
  range(expr: string, seconds: number, stepSeconds: number): Promise<readonly Series[]>;
  /** Values now, by their labels. */
  now(expr: string): Promise<readonly { readonly metric: Readonly<Record<string, string>>; readonly value: readonly [number, string] }[]>;
  rules(): Promise<readonly LoadedRule[]>;
}

export async function startPrometheus({ targets = [], ruleFiles = [], scrapeSeconds = 15 }: PrometheusOptions): Promise<Prometheus> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-prometheus-"));
  const configFile = join(dir, "prometheus.json");
  // JSON is YAML.
  const config = {
    global: { scrape_interval: `${scrapeSeconds}s`, scrape_timeout: `${scrapeSeconds}s`, evaluation_interval: `${scrapeSeconds}s` },
    rule_files: ruleFiles,
    scrape_configs: [
      { job_name: "dryapi", static_configs: targets.map(({ address, instance }) => ({ targets: [address], labels: { instance } })) },
    ],
  };
  await writeFile(configFile, JSON.stringify(config));
  const child = spawn(
    "prometheus",
    [`--config.file=${configFile}`, `--storage.tsdb.path=${join(dir, "tsdb")}`, "--web.listen-address=127.0.0.1:0", "--log.format=json"],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    if (child.pid !== undefined) await exited;
    await rm(dir, { recursive: true, force: true });
  };
  const { promise: address, resolve, reject } = Promise.withResolvers<string>();
  const said: string[] = [];
  const timer = setTimeout(() => reject(new Error(`prometheus did not listen within ${WAIT_MS} ms: ${said.join("\n")}`)), WAIT_MS);
  child.once("error", (cause) => reject(new Error("prometheus cannot be started; scripts/install-test-deps.sh installs it", { cause })));
  void exited.then(() => reject(new Error(`prometheus ended: ${said.slice(-10).join("\n")}`)));
  createInterface({ input: child.stderr }).on("line", (line) => {
    said.push(line);
    const { msg, address: bound } = JSON.parse(line) as { readonly msg?: string; readonly address?: string };
    if (msg === "Listening on" && bound !== undefined) resolve(bound);
  });
  try {
    const url = `http://${await address.finally(() => clearTimeout(timer))}`;
    await untilReady(url);
    return { ...client(url), [Symbol.asyncDispose]: stop };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/** It answers 503 while it opens its storage. */
async function untilReady(url: string): Promise<void> {
  for (const until = performance.now() + WAIT_MS; performance.now() < until;) {
    if ((await fetch(`${url}/-/ready`)).ok) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`prometheus at ${url} was not ready within ${WAIT_MS} ms`);
}

interface Answer<T> {
  readonly status: string;
  readonly error?: string;
  readonly data: T;
}

function client(url: string): Omit<Prometheus, typeof Symbol.asyncDispose> {
  const ask = async <T>(path: string, params: Readonly<Record<string, string>> = {}): Promise<Answer<T>> => {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(params).toString()}`);
    return (await response.json()) as Answer<T>;
  };
  const asked = async <T>(path: string, params?: Readonly<Record<string, string>>): Promise<T> => {
    const { status, error, data } = await ask<T>(path, params);
    if (status !== "success") throw new Error(`prometheus refused ${JSON.stringify(params)}: ${error ?? status}`);
    return data;
  };
  return {
    complaint: async (expr) => {
      const { status, error } = await ask("query", { query: expr });
      return status === "success" ? null : (error ?? status);
    },
    range: async (expr, seconds, stepSeconds) => {
      const end = Date.now() / 1_000;
      const params = { query: expr, start: String(end - seconds), end: String(end), step: String(stepSeconds) };
      return (await asked<{ result: readonly Series[] }>("query_range", params)).result;
    },
    now: async (expr) => (await asked<{ result: Awaited<ReturnType<Prometheus["now"]>> }>("query", { query: expr })).result,
    rules: async () => (await asked<{ groups: readonly { rules: readonly LoadedRule[] }[] }>("rules")).groups.flatMap(({ rules }) => rules),
  };
}
