import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { ENDLESS_TEXT, SHORT_TEXT, turnsModel } from "../../test/support/turns-model.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { percentile, row, type Row } from "./row.ts";

const MODEL = "layers";
const CANCELS = 24;
/** Cancels come at random moments of a run's first seconds. The run itself would go on for days. */
const WITHIN_MS = 2_000;
/** The setting's default. */
const GRACE = "3s";

interface Cancels {
  /** From the cancel to the job's end in the queue, milliseconds each. */
  readonly toEnd: readonly number[];
  /** From the cancel to the end of a short job that was waiting for the same runner, milliseconds each. */
  readonly toNext: readonly number[];
  /** How often a model was loaded. */
  readonly loads: number;
}

/**
 * A job whose only native run goes on for ever, in nodes of tens of milliseconds (a matrix product of 512 x 2048 by 2048 x 2048), is
 * cancelled at random moments: with the C API, and as it was, where a runner that is in a run is killed after the grace
 * and loads its model again. The model here is a graph without weights: a real one adds the time of its load to the latter.
 */
export async function cancelRows(): Promise<readonly Row[]> {
  await using now = await startSystem({ DRYAPI_CANCEL_GRACE_MS: GRACE }, BUILT_CLI);
  await using before = await startSystem({ DRYAPI_CANCEL_GRACE_MS: GRACE, DRYAPI_RUNTIME: "node" }, BUILT_CLI);
  const [ours, bare] = [await openCancels(now), await openCancels(before)];
  for (let n = 0; n < CANCELS; n++) {
    const afterMs = Math.random() * WITHIN_MS;
    await ours.cancelOne(afterMs);
    await bare.cancelOne(afterMs);
  }
  const [c, node] = [ours.measured(), bare.measured()];
  const rows = [50, 95].map((p) =>
    row({
      name: `cancel in a long native run to the job's end, p${p} of ${CANCELS}, over onnxruntime-node (${node.loads} loads against ${c.loads})`,
      unit: "ms",
      ours: percentile(c.toEnd, p),
      bare: percentile(node.toEnd, p),
      ...(p === 95 && { goal: { text: "<= 300 ms, 1 load", met: (r) => r.ours <= 300 && c.loads === 1 } }),
    }),
  );
  const next = row({
    name: "the same, to the end of a short job that waited for the runner, p95",
    unit: "ms",
    ours: percentile(c.toNext, 95),
    bare: percentile(node.toNext, 95),
  });
  return [...rows, next];
}

async function openCancels(
  system: TestSystem,
): Promise<{ readonly cancelOne: (afterMs: number) => Promise<void>; readonly measured: () => Cancels }> {
  const worker = await system.startWorker(await turnsModel(join(system.dir, "models"), { slug: MODEL, graph: "layers" }));
  const submit = (text: string): Promise<string> => system.submit({ model: MODEL, task: "txt2audio", params: { text } });
  await system.ended(MODEL, await submit(SHORT_TEXT));
  const toEnd: number[] = [];
  const toNext: number[] = [];
  return {
    cancelOne: async (afterMs) => {
      const id = await submit(ENDLESS_TEXT);
      const next = await submit(SHORT_TEXT);
      await system.event((event) => event.id === id && event.stage === "speak");
      await wait(afterMs);
      const cancelledAt = performance.now();
      await system.cancel(id);
      await system.event((event) => event.id === id && event.type === "error");
      toEnd.push(performance.now() - cancelledAt);
      await system.event((event) => event.id === next && event.type === "done");
      toNext.push(performance.now() - cancelledAt);
    },
    measured: () => ({ toEnd, toNext, loads: worker.lines.filter(({ msg }) => msg === "model loaded").length }),
  };
}
