import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { Redis } from "ioredis";
import { manyFakeModels } from "../../test/support/many-models.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";

/** Models that each idle daemon serves. */
export const IDLE_MODELS = 20;

/** What idle daemons cost their Redis, a second, all together. */
export interface IdleLoad {
  /** As Redis counts them: what a script calls counts, too. */
  readonly commands: number;
  /** Times that Redis read from a connection: a pipeline is one. */
  readonly reads: number;
  /** Seconds of CPU time of redis-server, a second. */
  readonly cpu: number;
  /** Connections, less the two of the bench. */
  readonly connections: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

/** A Redis with the intervals of production and so many daemons, each with its own name and folder. */
export async function startIdle(daemons: number): Promise<TestSystem> {
  const system = await startSystem({ DRYAPI_STALLED_INTERVAL_MS: "30s", DRYAPI_LOCK_MS: "30s" }, BUILT_CLI);
  Object.assign(system.env, await manyFakeModels(join(system.dir, "models"), IDLE_MODELS));
  for (let n = 1; n <= daemons; n += 1) {
    await system.startWorker({ DRYAPI_WORKER_NAME: `idle-${n}`, DRYAPI_STATE_DIR: join(system.dir, `state-${n}`) });
  }
  return system;
}

export async function idleLoad(system: TestSystem, seconds: number): Promise<IdleLoad> {
  const before = await counters(system.client, system.redis.pid);
  await wait(seconds * 1_000);
  const after = await counters(system.client, system.redis.pid);
  const took = after.at - before.at;
  return {
    commands: (after.commands - before.commands) / took,
    reads: (after.reads - before.reads) / took,
    cpu: (after.cpu - before.cpu) / took,
    connections: after.connections - 2,
    receivedBytes: (after.received - before.received) / took,
    sentBytes: (after.sent - before.sent) / took,
  };
}

/** Commands that Redis has carried out, those that scripts call included. */
export async function commandsSoFar(redis: Redis): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await redis.info("stats"))?.[1] ?? NaN);
}

interface Counters {
  readonly at: number;
  readonly commands: number;
  readonly reads: number;
  readonly cpu: number;
  readonly connections: number;
  readonly received: number;
  readonly sent: number;
}

async function counters(redis: Redis, pid: number): Promise<Counters> {
  const info = await redis.info();
  const of = (name: string): number => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info)?.[1] ?? NaN);
  return {
    at: performance.now() / 1_000,
    commands: of("total_commands_processed"),
    reads: of("total_reads_processed"),
    cpu: await cpuSeconds(pid),
    connections: of("connected_clients"),
    received: of("total_net_input_bytes"),
    sent: of("total_net_output_bytes"),
  };
}

/** User and system time of a process, in seconds. */
async function cpuSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}
