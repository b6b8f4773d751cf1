/**
 * What a system loses when its Redis does: `scripts/verify redis`. Clients submit all the time while the fault happens; afterwards each accepted
 * request is asked for. Exit 1 when more is lost than docs/redis.md says. Its figures are that page's.
 */
import { cp, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { audit, clearUp, CLIENTS, dir, end, Load, startSentinels, startServer, startSystem, until, type System } from "./redis-loss-rig.ts";

interface Found {
  readonly lost: number;
  readonly failed: number;
}

const problems: string[] = [];

async function crash(): Promise<void> {
  const server = await startServer("crash", []);
  const system = await startSystem("crash-system", `redis://127.0.0.1:${server.port}`);
  const load = new Load(system.url, system.key);
  await load.accepts(200);
  await end(server.process, "SIGKILL");
  const again = await startServer("crash", [], server.port);
  await load.accepts(200);
  await report("redis-server killed with -9, AOF everysec, started again", system, load, { lost: 0 });
  await end(again.process, "SIGTERM");
}

async function failover(): Promise<void> {
  const primary = await startServer("primary", ["min-replicas-to-write 1", "min-replicas-max-lag 2"]);
  const replica = await startServer("replica", [`replicaof 127.0.0.1 ${primary.port}`, "min-replicas-to-write 0"]);
  await until("a replica in step", async () => (await replica.redis.info("replication")).includes("master_link_status:up"));
  const sentinels = await startSentinels(primary.port);
  const system = await startSystem("failover-system", `redis+sentinel://${sentinels.map((port) => `127.0.0.1:${port}`).join(",")}/main`);
  const load = new Load(system.url, system.key);
  await load.accepts(200);
  await end(primary.process, "SIGKILL");
  await until("a promoted replica", async () => (await replica.redis.info("replication")).includes("role:master"));
  await load.accepts(200);
  // Replication is asynchronous: the last answers of the primary may not have reached the replica. One moment's worth is the bound.
  await report("primary killed with -9, sentinels promote the replica", system, load, { lost: CLIENTS });
}

async function partition(minReplicas: 0 | 1): Promise<void> {
  const name = `partition-${minReplicas}`;
  const primary = await startServer(`${name}-primary`, [`min-replicas-to-write ${minReplicas}`, "min-replicas-max-lag 2"]);
  const replica = await startServer(`${name}-replica`, [`replicaof 127.0.0.1 ${primary.port}`, "min-replicas-to-write 0"]);
  await until("a replica in step", async () => (await replica.redis.info("replication")).includes("master_link_status:up"));
  const system = await startSystem(`${name}-system`, `redis://127.0.0.1:${primary.port}`);
  const load = new Load(system.url, system.key);
  await load.accepts(200);
  replica.process.kill("SIGSTOP");
  const before = load.accepted.length;
  await wait(10_000);
  const meanwhile = load.accepted.length - before;
  await end(primary.process, "SIGKILL");
  replica.process.kill("SIGCONT");
  await replica.redis.call("REPLICAOF", "NO", "ONE");
  await load.stop();
  await system.end();
  replica.redis.disconnect();
  await end(replica.process, "SIGTERM");
  const again = await startServer(`${name}-replica`, [], primary.port);
  const after = await startSystem(`${name}-system`, `redis://127.0.0.1:${again.port}`);
  const { lost, failed } = await audit({ ...after, key: system.key }, load.accepted);
  line(`replica stopped for 10 s, then promoted, min-replicas-to-write ${minReplicas}`, load, { lost, failed });
  say(`  accepted while the replica was stopped: ${meanwhile}`);
  if (minReplicas === 0 ? lost === 0 : lost > meanwhile) problems.push(`${name}: ${lost} of ${meanwhile} lost`);
  await after.end();
  again.redis.disconnect();
  await end(again.process, "SIGTERM");
}

async function backup(): Promise<void> {
  const server = await startServer("backup", []);
  const system = await startSystem("backup-system", `redis://127.0.0.1:${server.port}`);
  const load = new Load(system.url, system.key);
  await load.accepts(200);
  const saved = await server.redis.lastsave();
  await wait(1_000);
  const known = load.accepted.length;
  await server.redis.bgsave();
  await until("a snapshot", async () => (await server.redis.lastsave()) > saved);
  await load.accepts(50);
  await load.stop();
  await system.end();
  const home = join(dir, "restored");
  await mkdir(home);
  await cp(join(server.data, "dump.rdb"), join(home, "dump.rdb"));
  server.redis.disconnect();
  await end(server.process, "SIGKILL");
  // As docs/redis.md says: started once without AOF, then switched on, so that the file is written from the snapshot.
  const restored = await startServer("restored", ["appendonly no"], server.port);
  await restored.redis.config("SET", "appendonly", "yes");
  const after = await startSystem("backup-system", `redis://127.0.0.1:${restored.port}`);
  const { lost, failed } = await audit({ ...after, key: system.key }, load.accepted.slice(0, known));
  say(`restored from a snapshot that was made under load: of ${known} requests accepted before it ${lost} lost, ${failed} failed`);
  if (lost > 0) problems.push(`backup: ${lost} requests of before the snapshot are unknown`);
  await after.end();
  restored.redis.disconnect();
  await end(restored.process, "SIGTERM");
}

async function report(what: string, system: System, load: Load, most: Pick<Found, "lost">): Promise<void> {
  await load.stop();
  const found = await audit(system, load.accepted);
  line(what, load, found);
  if (found.lost > most.lost) problems.push(`${what}: ${found.lost} accepted requests are unknown, at most ${most.lost} expected`);
  if (found.failed > 0) problems.push(`${what}: ${found.failed} accepted requests failed`);
  await system.end();
}

function line(what: string, load: Load, { lost, failed }: Found): void {
  const refused = [...load.refused].map(([status, count]) => `${count} x ${status === 0 ? "no answer" : status}`).join(", ") || "none";
  const gap = load.longestGapSeconds.toFixed(1);
  const counts = `${load.accepted.length} accepted, ${lost} lost, ${failed} failed; refused: ${refused}`;
  say(`${what}: ${counts}; longest time without an accepted one ${gap} s`);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

try {
  await crash();
  await failover();
  await partition(0);
  await partition(1);
  await backup();
} finally {
  await clearUp();
}
for (const problem of problems) say(`PROBLEM: ${problem}`);
process.exit(problems.length === 0 ? 0 : 1);
