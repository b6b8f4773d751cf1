import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mebibytes, nvidiaSmi } from "../../src/nvidia/nvidia-smi.ts";
import { TEST_DEVICE } from "../support/test-device.ts";

/** What was measured on the way, for people: `<name>.json` in the folder that $OUT names. Nothing without one. */
export function report(name: string, values: unknown): void {
  const dir = process.env["OUT"];
  if (dir === undefined || dir === "") return;
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, `${name}.json`), `${JSON.stringify(values, null, 2)}\n`);
}

/**
 * Bytes of memory that the tests' device has in use: by this process, or by all where the driver does not tell processes apart. On the CPU
 * this process' resident memory.
 */
export async function deviceBytes(): Promise<number> {
  if (TEST_DEVICE.kind === "cpu") return process.memoryUsage.rss();
  const processes = await nvidiaSmi(["--query-compute-apps=pid,used_memory"]);
  const own = processes?.find(([pid]) => pid === String(process.pid));
  const [all] = own === undefined ? ((await nvidiaSmi([`--id=${TEST_DEVICE.index}`, "--query-gpu=memory.used"])) ?? []) : [own.slice(1)];
  const bytes = mebibytes(all?.[0]);
  if (bytes === null) throw new Error(`nvidia-smi does not say how much memory GPU ${TEST_DEVICE.index} has in use`);
  return bytes;
}
