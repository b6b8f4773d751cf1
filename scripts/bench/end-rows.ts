import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { row, type Row } from "./row.ts";

/** How long an idle daemon takes from SIGTERM to its end: a Redis that is away must not keep it for the ten seconds of a command. */
export async function endRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const bare = await endMs(system, async () => undefined);
  const ours = await endMs(system, () => system.killRedis());
  return [
    row({
      name: "SIGTERM to the daemon's end while Redis is away, over the same with Redis",
      unit: "ms",
      ours,
      bare,
      goal: { text: "< 8 s", met: (r) => r.ours < 8_000 },
    }),
  ];
}

async function endMs(system: TestSystem, before: () => Promise<void>): Promise<number> {
  const worker = await system.startWorker();
  await before();
  const startedAt = performance.now();
  await worker.stop();
  return performance.now() - startedAt;
}
