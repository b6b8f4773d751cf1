import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { isMissing } from "../lib/errno.ts";
import { writeAtomic } from "../lib/write-atomic.ts";

const schema = z.object({
  pid: z.int().positive(),
  redisUrl: z.string(),
  /** Base URL of the gateway and a key for it; absent while it is not up yet. */
  apiUrl: z.string().optional(),
  apiKey: z.string().optional(),
});

/** What `dryapi up` leaves in the state folder while it runs, so that other commands on this machine find its Redis and its gateway. */
export type LocalSystem = z.infer<typeof schema>;

const fileOf = (stateDir: string): string => join(stateDir, "up.json");

export async function writeLocalSystem(stateDir: string, system: LocalSystem): Promise<void> {
  // It holds a key.
  await writeAtomic(fileOf(stateDir), JSON.stringify(system), 0o600);
}

export async function removeLocalSystem(stateDir: string): Promise<void> {
  await rm(fileOf(stateDir), { force: true });
}

/** The running `dryapi up` of this state folder, null when there is none. What one that was killed left behind does not count. */
export async function readLocalSystem(stateDir: string): Promise<LocalSystem | null> {
  let text: string;
  try {
    text = await readFile(fileOf(stateDir), "utf8");
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
  const parsed = schema.safeParse(parseJson(text));
  return parsed.success && isAlive(parsed.data.pid) ? parsed.data : null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    // Somebody else's process: alive.
    return thrown instanceof Error && "code" in thrown && thrown.code === "EPERM";
  }
}
