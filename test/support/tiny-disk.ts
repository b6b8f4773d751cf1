import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/**
 * Runs an ES module with a disk that can really be full: a tmpfs of 256 KiB in a mount namespace of the child's own. `process.argv[2]` is
 * the disk; what the script prints last is returned, parsed. Null, with the reason for `skip`, where nobody may mount a tmpfs.
 */
export async function onTinyDisk(script: string, skip: (reason: string) => void): Promise<unknown> {
  const root = await mkdtemp(join(tmpdir(), "tiny-disk-"));
  try {
    const disk = join(root, "disk");
    const path = join(root, "script.mjs");
    await mkdir(disk);
    await writeFile(path, script);
    const mount = 'mount -t tmpfs -o size=256k tmpfs "$1"';
    try {
      await run("unshare", ["-rm", "sh", "-c", mount, "sh", disk]);
    } catch (thrown) {
      skip(`this machine lets nobody mount a tmpfs in a namespace: ${String(thrown)}`);
      return null;
    }
    const args = ["-rm", "sh", "-c", `${mount} && exec "$2" "$3" "$1"`, "sh", disk, process.execPath, path];
    const { stdout } = await run("unshare", args, { env: { ...process.env, ORT_DISABLE_TELEMETRY: "1" } });
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
  } finally {
    await rm(root, { recursive: true, force: true });
  }
}
