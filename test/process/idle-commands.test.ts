import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { manyFakeModels } from "../support/many-models.ts";
import { startMonitor, type MonitoredCommand } from "../support/redis-monitor.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const MODELS = 20;
const LOOKS = 5;
/**
 * Of an idle daemon with 20 models, from one look at its queues to the next, which come every two seconds: 40 commands a second are its
 * budget, and this is a quarter of that. Counted by its own looks, so that the speed of the machine does not matter.
 */
const MOST_COMMANDS_PER_LOOK = 20;
/** What it sends itself; the rest is called by its scripts. */
const MOST_SENT_PER_LOOK = 6;
const CONNECTIONS = 3;

/** A look at all queues: one script with a key of each. */
function isLook({ args: [command, , keys, first] }: MonitoredCommand): boolean {
  return command?.startsWith("eval") === true && keys === String(MODELS) && first?.endsWith(":many-01:wait") === true;
}

function declaresLoad({ args: [command, , keys, first, ...rest] }: MonitoredCommand): boolean {
  return command?.startsWith("eval") === true && keys === "1" && first?.endsWith(":intent:many-01") === true && rest.length > 0;
}

async function startDaemon(): Promise<TestSystem> {
  const system = await startSystem({ DRYAPI_STALLED_INTERVAL_MS: "30s" });
  Object.assign(system.env, await manyFakeModels(join(system.dir, "models"), MODELS));
  const before = await connections(system);
  await system.startWorker();
  assert.equal((await connections(system)) - before, CONNECTIONS, "connections of a daemon");
  return system;
}

async function connections(system: TestSystem): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await system.client.info("clients"))?.[1]);
}

test("an idle daemon of 20 models sends Redis few commands", async () => {
  await using system = await startDaemon();
  using monitor = await startMonitor(system.redis.url);
  const looks = (): readonly number[] => monitor.seen.flatMap((command, index) => (isLook(command) ? [index] : []));
  await system.until(`${LOOKS + 1} looks at all queues`, () => (looks().length > LOOKS ? true : undefined), looks);
  const [from = 0, to = 0] = [looks()[0], looks()[LOOKS]];
  const between = monitor.seen.slice(from, to);
  const names = [...Map.groupBy(between, ({ args }) => args[0])].map(([name, all]) => `${name} ${all.length}`).join(", ");
  const sent = between.filter(({ byScript }) => !byScript);
  assert.ok(between.length / LOOKS <= MOST_COMMANDS_PER_LOOK, `${between.length} commands in ${LOOKS} looks: ${names}`);
  assert.ok(sent.length / LOOKS <= MOST_SENT_PER_LOOK, `${sent.length} commands sent in ${LOOKS} looks: ${names}`);
});

test("work that nothing told of is found by the next look at all queues", async () => {
  await using system = await startDaemon();
  const meta = `${system.keys.prefix}:many-01:meta`;
  await system.client.hset(meta, "paused", "1");
  const id = await system.submit({ model: "many-01" });
  using monitor = await startMonitor(system.redis.url);
  const looks = (): number => monitor.seen.filter(isLook).length;
  await system.until("a look at the paused queue", () => (looks() > 0 ? true : undefined), looks);
  assert.equal(await system.state("many-01", id), "waiting");
  // No event says so, as when one was trimmed away or lost in a fail-over.
  await system.client.hdel(meta, "paused");
  assert.equal((await system.ended("many-01", id)).state, "completed");
  const told = monitor.seen.findIndex(({ args: [command, key] }) => command?.toLowerCase() === "hdel" && key === meta);
  const acted = monitor.seen.findIndex((command, index) => index > told && declaresLoad(command));
  assert.ok(told >= 0 && acted > told, `hdel at ${told}, load at ${acted} of ${monitor.seen.length}`);
  const needed = monitor.seen.slice(told, acted).filter(isLook).length;
  assert.ok(needed <= 2, `it took ${needed} looks`);
});
