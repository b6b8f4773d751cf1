/** Before `npm pack`: builds `dist` anew, so that a tarball never holds yesterday's program or none. Runs on any Node >= 20. */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

for (const needed of ["tsc", "node"]) {
  if (existsSync(join(root, "node_modules", ".bin", needed))) continue;
  if (needed === "node" && Number(process.versions.node.split(".")[0]) >= 24) continue;
  const what = needed === "tsc" ? "TypeScript" : "Node 24";
  console.error(`prepack: dist cannot be built: ${what} is not installed in ${root}; run scripts/setup, then npm pack again`);
  process.exit(1);
}
rmSync(join(root, "dist"), { recursive: true, force: true });
// What a build says goes to stderr: the name of the tarball is all that belongs on stdout.
const { status } = spawnSync("npm", ["run", "build", "--silent"], { cwd: root, stdio: ["ignore", 2, 2] });
process.exitCode = status ?? 1;
