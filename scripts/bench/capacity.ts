/**
 * `node scripts/bench/capacity.ts [--daemons 1,10,20] [--seconds 60] [--waiting 10000] [--ended 2000] [--others 4]`: the figures of
 * docs/capacity.md, as tables in Markdown. Real programs on a private Redis. BENCH_CLI names the built program of another checkout.
 */
import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { jobCosts, restartTimes } from "./capacity-jobs.ts";
import { IDLE_MODELS, idleLoad, startIdle } from "./idle-rig.ts";

const { values } = parseArgs({
  options: {
    daemons: { type: "string", default: "1,10,20" },
    seconds: { type: "string", default: "60" },
    waiting: { type: "string", default: "10000" },
    ended: { type: "string", default: "2000" },
    others: { type: "string", default: "4" },
  },
});
const print = (...lines: readonly string[]): void => void process.stdout.write(`${lines.join("\n")}\n`);

print(
  "",
  `| idle daemons of ${IDLE_MODELS} models | Redis commands a second | round trips a second | CPU of redis-server | to Redis | connections | RSS of a daemon |`,
  "|---|---|---|---|---|---|---|",
);
for (const count of values.daemons.split(",").map(Number)) {
  await using system = await startIdle(count);
  await idleLoad(system, 10);
  const load = await idleLoad(system, Number(values.seconds));
  const rss = await rssOf(system.workerPids);
  const shown = [
    count,
    load.commands.toFixed(1),
    load.reads.toFixed(1),
    `${(load.cpu * 100).toFixed(2)} %`,
    `${(load.receivedBytes / 1_000).toFixed(1)} kB/s`,
    load.connections,
    `${(rss / 1e6).toFixed(0)} MB`,
  ];
  print(`| ${shown.join(" | ")} |`);
}

const [waiting, ended, others] = [Number(values.waiting), Number(values.ended), Number(values.others)];
const costs = await jobCosts({ waiting, ended, others });
print(
  "",
  "| of a request | |",
  "|---|---|",
  `| Redis memory while it waits (${waiting} of them) | ${(costs.waitingBytes / 1_000).toFixed(2)} kB |`,
  `| Redis memory once it has ended, until the retention is over (${ended} of them) | ${(costs.endedBytes / 1_000).toFixed(2)} kB |`,
  `| Redis commands from submit to \`done\`, one daemon | ${costs.commands.toFixed(0)} |`,
  `| further commands for each other idle daemon that serves the model | ${costs.commandsPerOther.toFixed(1)} |`,
  `| Redis commands of an idle gateway, a second | ${costs.gatewayCommands.toFixed(1)} |`,
  `| connections of a gateway with its courier | ${costs.gatewayConnections} |`,
);

print("", "| restart while requests wait | Redis ready | gateway ready | worker started and a job done |", "|---|---|---|---|");
for (const count of [0, waiting]) {
  const times = await restartTimes(Math.max(1, count));
  print(`| ${times.waiting} | ${times.redisMs.toFixed(0)} ms | ${times.gatewayMs.toFixed(0)} ms | ${times.workerMs.toFixed(0)} ms |`);
}

/** Bytes, of the largest. */
async function rssOf(pids: readonly number[]): Promise<number> {
  const each = await Promise.all(
    pids.map(async (pid) => Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1] ?? NaN) * 1_024),
  );
  return Math.max(...each);
}
