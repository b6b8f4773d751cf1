import { constants } from "node:fs";
import { access, statfs } from "node:fs/promises";
import { unknownSettings, type Config } from "../../config/config.ts";
import { findProgram, pathFolders } from "../../lib/find-program.ts";
import { makeFolders } from "../../lib/make-folders.ts";
import { formatBytes } from "../terminal.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

type Env = Readonly<Record<string, string | undefined>>;

const NEEDED_NODE_MAJOR = 24;
/** Linux's tmpfs, from statfs(2). */
const TMPFS_MAGIC = 0x0102_1994;

export function checkNode(version: string): Finding {
  const major = Number(/^v?(\d+)/.exec(version)?.[1]);
  if (major >= NEEDED_NODE_MAJOR) return ok("node", version);
  return fail(
    "node",
    `${version} is older than ${NEEDED_NODE_MAJOR}`,
    `run with Node ${NEEDED_NODE_MAJOR}, or start it with the dryapi command, which finds the one that came with the package`,
  );
}

export function checkSettings(env: Env): readonly Finding[] {
  const unknown = unknownSettings(env);
  if (unknown.length === 0) return [ok("settings", "all valid")];
  return unknown.map((name) => warn("settings", `${name} is set but is no setting`, "check its spelling against `dryapi config`"));
}

export async function checkSetpriv(env: Env): Promise<Finding> {
  const path = findProgram("setpriv", pathFolders(env));
  if (path !== null) return ok("setpriv", path);
  return warn(
    "setpriv",
    "not in the PATH: runners watch their parent from a thread instead of being killed with it by the kernel",
    "install util-linux (apt-get install util-linux)",
  );
}

/** Audio and video models decode and encode with it. */
export async function checkFfmpeg(env: Env, { ffmpegDir }: Pick<Config, "ffmpegDir">): Promise<readonly Finding[]> {
  const folders = ffmpegDir === null ? pathFolders(env) : [ffmpegDir];
  const where = ffmpegDir === null ? "in the PATH" : `in DRYAPI_FFMPEG_DIR ${ffmpegDir}`;
  const findings: Finding[] = [];
  for (const program of ["ffmpeg", "ffprobe"]) {
    const path = findProgram(program, folders);
    if (path === null)
      findings.push(warn(program, `not ${where}: jobs of audio and video models fail`, "install it (apt-get install ffmpeg)"));
    else findings.push(ok(program, path));
  }
  return findings;
}

/** The folders that a worker writes to: there, writable, on a real disk with room. */
export async function checkDisk(
  config: Pick<Config, "stateDir" | "spoolDir" | "spoolMinFreeBytes" | "spoolMaxBytes">,
): Promise<readonly Finding[]> {
  const findings: Finding[] = [];
  for (const [name, dir] of [["state folder", config.stateDir] as const, ["spool", config.spoolDir] as const]) {
    findings.push(await checkFolder(name, dir));
  }
  if (findings.some(({ level }) => level === "fail")) return findings;
  const disk = await statfs(config.spoolDir);
  const freeBytes = disk.bavail * disk.bsize;
  if (disk.type === TMPFS_MAGIC) {
    findings.push(
      warn("spool", `${config.spoolDir} is a tmpfs: finished outputs are lost with a reboot`, "set DRYAPI_SPOOL_DIR to a folder on a disk"),
    );
  }
  const free = `${formatBytes(freeBytes)} free at ${config.spoolDir}`;
  if (freeBytes < config.spoolMinFreeBytes) {
    findings.push(
      fail(
        "disk space",
        `${free}, less than DRYAPI_SPOOL_MIN_FREE_BYTES (${formatBytes(config.spoolMinFreeBytes)}): no job would be claimed`,
        "free space on that disk or lower the setting",
      ),
    );
  } else if (freeBytes < config.spoolMinFreeBytes + config.spoolMaxBytes) {
    findings.push(
      warn(
        "disk space",
        `${free}, less than the spool may grow to (${formatBytes(config.spoolMaxBytes)})`,
        "lower DRYAPI_SPOOL_MAX_BYTES or give the spool a bigger disk",
      ),
    );
  } else {
    findings.push(ok("disk space", free));
  }
  return findings;
}

async function checkFolder(check: string, dir: string): Promise<Finding> {
  try {
    await makeFolders(dir);
  } catch (thrown) {
    return fail(check, `${dir} cannot be made: ${String(thrown)}`, "make it, owned by the user that runs dryapi");
  }
  if (await canUse(dir, constants.W_OK | constants.X_OK)) return ok(check, dir);
  return fail(check, `${dir} is not writable`, "give it to the user that runs dryapi");
}

async function canUse(path: string, mode: number): Promise<boolean> {
  return access(path, mode).then(
    () => true,
    () => false,
  );
}
