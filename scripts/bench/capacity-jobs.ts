import { randomBytes } from "node:crypto";
import { Agent, request } from "node:http";
import { addClient, ApiClient, endOf, startGateway, type GatewayProcess } from "../../test/support/gateway.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { commandsSoFar, idleLoad } from "./idle-rig.ts";

/** Submits at once: more would only wait in the gateway. */
const AT_ONCE = 32;
const NO_LIMITS = { DRYAPI_RATE_PER_MINUTE: "1000000", DRYAPI_RATE_PER_DAY: "1000000000" };

export interface JobCosts {
  /** Redis' own `used_memory`, bytes a request. */
  readonly waitingBytes: number;
  readonly endedBytes: number;
  /** Commands of the whole life of a request without a webhook, less what idle programs send. */
  readonly commands: number;
  /** What each further idle daemon with the same model adds to it. */
  readonly commandsPerOther: number;
  readonly gatewayCommands: number;
  readonly gatewayConnections: number;
}

export interface RestartTimes {
  readonly waiting: number;
  readonly redisMs: number;
  readonly workerMs: number;
  readonly gatewayMs: number;
}

/** Through a real gateway: records, indexes and all. */
export async function submitMany(api: { readonly url: string; readonly key: string }, count: number): Promise<readonly string[]> {
  using agent = keptAgent();
  const ids: string[] = [];
  let left = count;
  const work = async (): Promise<void> => {
    for (; left > 0;) {
      left -= 1;
      ids.push(await submit(api, agent.agent));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return ids;
}

function keptAgent(): Disposable & { readonly agent: Agent } {
  const agent = new Agent({ keepAlive: true });
  return { agent, [Symbol.dispose]: () => agent.destroy() };
}

/** A prompt of usual length, of its own. */
function body(): string {
  const prompt = `a lighthouse at dusk ${randomBytes(90).toString("hex")}`;
  return JSON.stringify({ model: "fake", prompt, width: 1024, height: 1024, steps: 4, step_ms: 1 });
}

function submit({ url, key }: { readonly url: string; readonly key: string }, agent: Agent): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": "application/json" };
  const sent = request(`${url}/api/v1/client/txt2img`, { method: "POST", agent, headers }, (response) => {
    let text = "";
    response.setEncoding("utf8").on("data", (part: string) => (text += part));
    response.on("error", reject);
    response.on("end", () => {
      if (response.statusCode !== 200) reject(new Error(`capacity: a submit was answered ${response.statusCode}: ${text}`));
      else resolve((JSON.parse(text) as { data: { request_id: string } }).data.request_id);
    });
  });
  sent.on("error", reject);
  sent.end(body());
  return promise;
}

async function usedMemory({ client }: TestSystem): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await client.info("memory"))?.[1] ?? NaN);
}

interface Rig extends AsyncDisposable {
  readonly system: TestSystem;
  readonly gateway: GatewayProcess;
  readonly key: string;
}

async function startRig(): Promise<Rig> {
  const system = await startSystem(
    { DRYAPI_MODELS: "fake", DRYAPI_STALLED_INTERVAL_MS: "30s", DRYAPI_LOCK_MS: "30s", DRYAPI_TEST_MODELS: "on" },
    BUILT_CLI,
  );
  const gateway = await startGateway(system, NO_LIMITS, BUILT_CLI);
  return {
    system,
    gateway,
    key: await addClient(system),
    [Symbol.asyncDispose]: async () => {
      await gateway.kill9();
      await system[Symbol.asyncDispose]();
    },
  };
}

/** `waiting` requests are put in, `ended` of them are run. `others`: idle daemons beside the one that works. */
export async function jobCosts(options: { readonly waiting: number; readonly ended: number; readonly others: number }): Promise<JobCosts> {
  await using rig = await startRig();
  const { system, gateway, key } = rig;
  await idleLoad(system, 5);
  const gatewayIdle = await idleLoad(system, 30);
  const warm = await submitMany({ url: gateway.url, key }, 100);
  const before = await usedMemory(system);
  const ids = await submitMany({ url: gateway.url, key }, options.waiting);
  const waitingBytes = ((await usedMemory(system)) - before) / ids.length;
  for (const id of ids.slice(options.ended)) await system.queues.removeQueued("fake", id);
  const full = await usedMemory(system);
  const worker = await system.startWorker();
  const left = [...warm, ...ids.slice(0, options.ended)];
  for (const id of left) await system.ended("fake", id);
  const endedBytes = waitingBytes + ((await usedMemory(system)) - full) / left.length;
  const commands = await commandsPerJob(rig);
  for (let n = 1; n <= options.others; n += 1) {
    await system.startWorker({ DRYAPI_WORKER_NAME: `other-${n}`, DRYAPI_STATE_DIR: `${system.dir}/other-${n}`, DRYAPI_DEVICE: "cpu" });
  }
  const withOthers = await commandsPerJob(rig);
  await worker.stop();
  return {
    waitingBytes,
    endedBytes,
    commands,
    commandsPerOther: (withOthers - commands) / options.others,
    gatewayCommands: gatewayIdle.commands,
    gatewayConnections: gatewayIdle.connections,
  };
}

/** One request at a time: what daemons and gateway send by themselves meanwhile is taken off. */
async function commandsPerJob({ system, gateway, key }: Rig): Promise<number> {
  const jobs = 200;
  const idle = (await idleLoad(system, 10)).commands;
  const startedAt = performance.now();
  const before = await commandsSoFar(system.client);
  for (let n = 0; n < jobs; n += 1) {
    const [id = ""] = await submitMany({ url: gateway.url, key }, 1);
    await system.event((event) => event.id === id && event.type === "done");
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  return ((await commandsSoFar(system.client)) - before - idle * seconds) / jobs;
}

/** How long each program takes to be ready again while so many requests wait. */
export async function restartTimes(waiting: number): Promise<RestartTimes> {
  await using rig = await startRig();
  const { system, gateway, key } = rig;
  const ids = await submitMany({ url: gateway.url, key }, waiting);
  await gateway.stop();
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const startedAt = performance.now();
    await work();
    return performance.now() - startedAt;
  };
  await system.killRedis();
  const redisMs = await timed(() => system.restartRedis());
  let again: GatewayProcess | null = null;
  const gatewayMs = await timed(async () => (again = await startGateway(system, NO_LIMITS, BUILT_CLI)));
  const workerMs = await timed(async () => {
    await system.startWorker();
    await system.event((event) => event.type === "done");
  });
  // All of them are still there, and known.
  if (again !== null) await endOf(system, new ApiClient((again as GatewayProcess).url, key), ids[0] ?? "");
  await (again as GatewayProcess | null)?.kill9();
  return { waiting, redisMs, workerMs, gatewayMs };
}
