import { execFileSync } from "node:child_process";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..", "..");

/** The built program, as it is deployed: stripping types at run time costs memory and start time that no host pays. Built on first use. */
export const BUILT_CLI: string = build();

function build(): string {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  return join(ROOT, "dist", "cli.js");
}
