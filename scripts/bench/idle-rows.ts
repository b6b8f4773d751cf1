import { IDLE_MODELS, idleLoad, startIdle } from "./idle-rig.ts";
import { row, type Row } from "./row.ts";

/** Long enough for what daemons do every half minute. */
const SECONDS = 60;

/** What one daemon without work asks of Redis. */
export async function idleRows(): Promise<readonly Row[]> {
  await using system = await startIdle(1);
  // What a start does once is over with the first of these.
  await idleLoad(system, 5);
  const { commands, reads, connections } = await idleLoad(system, SECONDS);
  return [
    row({
      name: `Redis commands of an idle daemon with ${IDLE_MODELS} models, those that scripts call included`,
      unit: "/s",
      ours: commands,
      goal: { text: "<= 40 /s", met: (r) => r.ours <= 40 },
    }),
    row({ name: "round trips of the same", unit: "/s", ours: reads }),
    row({ name: "its connections to Redis", unit: "", ours: connections }),
  ];
}
