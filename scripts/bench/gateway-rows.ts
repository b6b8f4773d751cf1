import { spawn } from "node:child_process";
import { once } from "node:events";
import { Agent, request } from "node:http";
import { join } from "node:path";
import { addClient, startGateway } from "../../test/support/gateway.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { percentile, row, type Row } from "./row.ts";

const SUBMITS = 2_000;
/** Ours and bare take turns, so that a noisy moment hits both. */
const ROUNDS = 5;
const CONCURRENCY = 16;
const BODY = JSON.stringify({ model: "tiny-flux-schnell", prompt: "a lighthouse at dusk", width: 256, height: 256, steps: 4 });

/** The gateway's part: submits and polls under load. */
export async function gatewayRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const env = { DRYAPI_RATE_PER_MINUTE: "0", DRYAPI_MODELS: "fake,tiny-flux-schnell" };
  await using gateway = await startGateway(system, env, BUILT_CLI);
  const key = await addClient(system);
  const headers = { Authorization: `Bearer ${key}` };
  await using other = await startBare(system);
  const bareRounds: Load[] = [];
  const ourRounds: Load[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    bareRounds.push(await load(`${other.url}/submit`, "POST", {}));
    ourRounds.push(await load(`${gateway.url}/api/v1/client/txt2img`, "POST", headers));
  }
  const [bare, submits] = [together(bareRounds), together(ourRounds)];
  const { body } = await call(`${gateway.url}/api/v1/client/txt2img`, "POST", headers, new Agent());
  const { request_id: id } = (JSON.parse(body) as { data: { request_id: string } }).data;
  const statuses = await load(`${gateway.url}/api/v1/client/request-status/${id}`, "GET", headers);
  return [
    row({
      name: `submits a second, ${CONCURRENCY} at a time (bare: fastify and a BullMQ add)`,
      unit: "/s",
      ours: submits.perSecond,
      bare: bare.perSecond,
      goal: { text: ">= 60 %", met: ({ ratio }) => ratio >= 0.6 },
    }),
    row({ name: "submit under that load, p50", unit: "ms", ours: percentile(submits.ms, 50), bare: percentile(bare.ms, 50) }),
    row({ name: "submit under that load, p99", unit: "ms", ours: percentile(submits.ms, 99), bare: percentile(bare.ms, 99) }),
    row({ name: `status under load, ${CONCURRENCY} at a time, p50`, unit: "ms", ours: percentile(statuses.ms, 50) }),
    row({ name: "status under load, p99", unit: "ms", ours: percentile(statuses.ms, 99) }),
  ];
}

interface Load {
  readonly seconds: number;
  readonly ms: readonly number[];
}

function together(rounds: readonly Load[]): { readonly perSecond: number; readonly ms: readonly number[] } {
  const ms = rounds.flatMap((round) => round.ms);
  return { perSecond: ms.length / rounds.reduce((sum, { seconds }) => sum + seconds, 0), ms };
}

async function startBare(system: TestSystem): Promise<AsyncDisposable & { readonly url: string }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "bare-gateway.ts")], {
    env: { ...system.env, REDIS_URL: system.redis.url },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  return {
    url: `http://127.0.0.1:${chunk.toString().trim()}`,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** The same calls over kept-alive connections; the first ones, which compile code, do not count. */
async function load(url: string, method: "GET" | "POST", headers: Readonly<Record<string, string>>): Promise<Load> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  const ms: number[] = [];
  const batch = async (count: number): Promise<void> => {
    let left = count;
    const worker = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        const startedAt = performance.now();
        const { status, body } = await call(url, method, headers, agent);
        if (status !== 200) throw new Error(`bench: ${method} ${url} answered ${status}: ${body}`);
        ms.push(performance.now() - startedAt);
      }
    };
    await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  };
  await batch(SUBMITS / 4);
  ms.length = 0;
  const startedAt = performance.now();
  await batch(SUBMITS);
  const seconds = (performance.now() - startedAt) / 1_000;
  agent.destroy();
  return { seconds, ms };
}

async function call(
  url: string,
  method: string,
  headers: Readonly<Record<string, string>>,
  agent: Agent,
): Promise<{ readonly status: number; readonly body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ readonly status: number; readonly body: string }>();
  const sent = request(
    url,
    { method, agent, headers: { ...headers, ...(method === "POST" && { "Content-Type": "application/json" }) } },
    (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => (body += text));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("error", reject);
    },
  );
  sent.on("error", reject);
  sent.end(method === "POST" ? BODY : undefined);
  return promise;
}
