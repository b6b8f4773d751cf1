import { BUILT_CLI } from "./built-cli.ts";
import { childrenOf, startSystem } from "../../test/support/system.ts";
import { residentBytes } from "./resident-bytes.ts";
import { row, type Row } from "./row.ts";

const MIB = 2 ** 20;

/** Resident memory of an idle daemon and of an idle runner that holds the tiny Flux. */
export async function memoryRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const worker = await system.startWorker();
  const fresh = await residentBytes(worker.pid);
  const params = { prompt: "a boat", width: 128, height: 128, steps: 2, seed: 1 };
  await system.ended("tiny-flux-schnell", await system.submit({ model: "tiny-flux-schnell", params }));
  const [runner] = await childrenOf(worker.pid);
  const idle = await residentBytes(worker.pid);
  return [
    row({
      name: "RSS of the daemon, idle, before any job",
      unit: "MiB",
      ours: fresh / MIB,
      goal: { text: "<= 120 MB", met: (r) => r.ours * MIB <= 120e6 },
    }),
    row({
      name: "RSS of the daemon, idle, after a job",
      unit: "MiB",
      ours: idle / MIB,
      goal: { text: "<= 120 MB", met: (r) => r.ours * MIB <= 120e6 },
    }),
    row({ name: "RSS of an idle runner with tiny Flux", unit: "MiB", ours: (await residentBytes(runner ?? 0)) / MIB }),
  ];
}
