import { createHash, randomBytes } from "node:crypto";
import { link, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { sleep } from "./backoff.ts";
import { errnoOf, isMissing } from "./errno.ts";
import { judgeProcess, ownIdentity, type ProcessIdentity } from "./process-identity.ts";

/** Who holds a lock; a damaged file says less. */
export interface LockHolder extends Partial<ProcessIdentity> {
  readonly host?: string;
  /** What for, for whoever is refused or waits. */
  readonly does?: string;
}

/** A holder in another container cannot be looked at; it shows its life by the lock file's time. */
const HEARTBEAT_MS = 5_000;
export const FOREIGN_STALE_MS = 15_000;
/** Between looks at a lock that another process is replacing. */
const RETRY_MS = 50;
const ROUNDS = 10;

export type LockTry =
  | { readonly lock: AsyncDisposable }
  /** Who has it; null where it changed hands at every look. */
  | { readonly holder: LockHolder | null };

/**
 * Takes a lock file for this process, which disposing gives back. A lock whose holder is gone (killed, rebooted) is replaced, by exactly one of
 * those that find it. @param does what for
 */
export async function tryLock(path: string, does?: string): Promise<LockTry> {
  const own = JSON.stringify({ ...(await currentHolder()), ...(does !== undefined && { does }) });
  for (let round = 0; round < ROUNDS; round += 1) {
    const held = await readHolder(path);
    if (held === null) {
      if (await tryTake(path, own)) return { lock: keep(path, own) };
      continue;
    }
    if (await isAlive(held.holder, path)) return { holder: held.holder };
    if (await replaceStale(path, held.text, own)) return { lock: keep(path, own) };
    await sleep(RETRY_MS);
  }
  return { holder: null };
}

/** link() fails when the name exists and the content is whole when it succeeds: no reader ever sees an empty lock. */
async function tryTake(path: string, text: string): Promise<boolean> {
  const temporary = `${path}.${randomBytes(6).toString("hex")}`;
  await writeFile(temporary, text, { flag: "wx" });
  try {
    await link(temporary, path);
    return true;
  } catch (thrown) {
    if (errnoOf(thrown) === "EEXIST") return false;
    throw thrown;
  } finally {
    await rm(temporary, { force: true });
  }
}

function keep(path: string, own: string): AsyncDisposable {
  const beat = setInterval(() => {
    const now = new Date();
    // A failed beat (disk trouble) is no reason to stop: the lock is only the guard against a second daemon.
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT_MS);
  beat.unref();
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(beat);
      const held = await readHolder(path);
      if (held?.text === own) await rm(path, { force: true });
    },
  };
}

async function readHolder(path: string): Promise<{ readonly text: string; readonly holder: LockHolder } | null> {
  try {
    const text = await readFile(path, "utf8");
    try {
      return { text, holder: JSON.parse(text) as LockHolder };
    } catch {
      // Damaged by a disk or a person: it names nobody, so it holds nothing.
      return { text, holder: {} };
    }
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

async function isAlive(holder: LockHolder, path: string): Promise<boolean> {
  const own = await currentHolder();
  if (holder.bootId !== own.bootId && holder.host === own.host) return false;
  const judged = await judgeProcess(holder, own);
  if (judged !== "unknown") return judged === "alive";
  if (holder.pid === undefined) return false;
  const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: 0 }));
  return Date.now() - mtimeMs < FOREIGN_STALE_MS;
}

/**
 * Puts this process' lock in the place of one whose holder is gone. Only who has made a file that is named after that very lock may do so, and
 * looks once more before: a lock that somebody else has taken meanwhile is never touched, and there is no moment without one.
 * False when another process was first, or is at it.
 */
async function replaceStale(path: string, staleText: string, own: string): Promise<boolean> {
  const turn = `${path}.${createHash("sha256").update(staleText).digest("hex").slice(0, 12)}`;
  if (!(await tryTake(turn, own))) {
    const other = await readHolder(turn);
    if (other === null || (await isAlive(other.holder, turn))) return false;
    // Its maker died in the middle of this.
    if (!(await replaceStale(turn, other.text, own))) return false;
  }
  const fresh = `${path}.${randomBytes(6).toString("hex")}`;
  try {
    if ((await readHolder(path))?.text !== staleText) return false;
    await writeFile(fresh, own, { flag: "wx" });
    await rename(fresh, path);
    return true;
  } finally {
    await rm(fresh, { force: true });
    await rm(turn, { force: true });
  }
}

async function currentHolder(): Promise<ProcessIdentity & { readonly host: string }> {
  return { ...(await ownIdentity()), host: hostname() };
}
