import { JOB_MS, startLatencyRig } from "./latency-rig.ts";
import { percentile, row, type Row } from "./row.ts";

const WARM_UP = 100;
const JOBS = 400;
const GOALS_MS: Readonly<Record<number, number>> = { 50: 4, 95: 8, 99: 15 };

/** What a client waits for beside the job itself: HTTP submit to `done` on its pusher-js socket, one job at a time. */
export async function latencyRows(): Promise<readonly Row[]> {
  await using rig = await startLatencyRig();
  for (let i = 0; i < WARM_UP; i += 1) await rig.job();
  const waits: number[] = [];
  for (let i = 0; i < JOBS; i += 1) {
    const { submittedAt, doneAt } = await rig.job();
    waits.push(doneAt - submittedAt - JOB_MS);
  }
  return Object.entries(GOALS_MS).map(([p, goalMs]) =>
    row({
      name: `submit to done on a socket, job of ${JOB_MS} ms, one at a time, less the ${JOB_MS} ms, p${p}`,
      unit: "ms",
      ours: percentile(waits, Number(p)),
      goal: { text: `<= ${goalMs} ms`, met: (r) => r.ours <= goalMs },
    }),
  );
}
