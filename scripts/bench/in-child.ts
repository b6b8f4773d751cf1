import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Garbage is collected when it must be: what still grows then is held. */
const SMALL_HEAP = ["--max-old-space-size=64", "--max-semi-space-size=8"];

/** Runs a script of this folder in a process of its own, whose peak memory is its alone; returns the JSON that it prints. */
export async function inChild<T>(script: string, ...args: readonly (string | number)[]): Promise<T> {
  const { stdout } = await run(process.execPath, [...SMALL_HEAP, join(import.meta.dirname, script), ...args.map(String)]);
  return JSON.parse(stdout) as T;
}
