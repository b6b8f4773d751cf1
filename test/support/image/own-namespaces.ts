import { spawn, spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MARK = "DRYAPI_REPLAY_DIR";

/**
 * Runs this script again, as the first process of namespaces of its own for mounts and processes: whatever it mounts and starts ends with
 * it. There, `work` gets an empty folder; here, the script's exit code becomes this process's own.
 */
export async function inOwnNamespaces(work: (dir: string) => Promise<void>): Promise<void> {
  const given = process.env[MARK];
  if (given !== undefined) {
    // The first process of a namespace is spared what it does not handle.
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
    await work(given);
    return;
  }
  const dir = await mkdtemp(join(tmpdir(), "dryapi-image-"));
  try {
    const [script = "", ...args] = process.argv.slice(1);
    const through = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"];
    // With the outer process the inner ones go, however it ends.
    const child = spawn("setpriv", ["--pdeathsig", "KILL", "unshare", ...through, process.execPath, script, ...args], {
      stdio: "inherit",
      env: { ...process.env, [MARK]: dir },
    });
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill("SIGKILL"));
    process.exitCode = await new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code) => resolve(code ?? 1));
    });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Why a replay cannot run on this machine; null where it can. */
export function whyNoNamespaces(): string | null {
  const { status, error, stderr } = spawnSync("unshare", ["--mount", "--pid", "--fork", "true"], { encoding: "utf8" });
  if (status === 0) return null;
  return `the Dockerfile's replay needs namespaces of its own (root, or a container that may mount): ${error?.message ?? stderr.trim()}`;
}
