import { execFileSync } from "node:child_process";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");

/**
 * The built program, as it is deployed: stripping types at run time costs memory and start time that no host pays. Built on first use.
 * BENCH_CLI names the built program of another checkout, which is then measured instead (compare.ts).
 */
export const BUILT_CLI: string = process.env["BENCH_CLI"] ?? build();

function build(): string {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return join(ROOT, "dist", "cli.js");
}
