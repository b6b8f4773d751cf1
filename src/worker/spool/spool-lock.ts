import { createHash, randomBytes } from "node:crypto";
import { link, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { sleep } from "../../lib/backoff.ts";
import { errnoOf, isMissing } from "../../lib/errno.ts";
import { judgeProcess, ownIdentity, type ProcessIdentity } from "../../lib/process-identity.ts";
import { AppError } from "../../protocol/error.ts";

/** Who holds a spool folder. */
interface Holder extends ProcessIdentity {
  readonly host: string;
}

/** A holder in another container cannot be looked at; it shows its life by the lock file's time. */
const HEARTBEAT_MS = 5_000;
const FOREIGN_STALE_MS = 15_000;
/** Between looks at a lock that another process is replacing. */
const RETRY_MS = 50;

/**
 * Takes `<dir>/lock` for this process; one daemon per spool folder. A lock whose holder is gone (killed, rebooted) is replaced.
 * Disposing gives it back.
 * @throws AppError CONFIG_INVALID naming the holder
 */
export async function lockSpool(dir: string): Promise<AsyncDisposable> {
  const path = join(dir, "lock");
  const own = JSON.stringify(await currentHolder());
  for (let round = 0; round < 10; round += 1) {
    if (await tryTake(path, own)) return keep(path, own);
    const held = await readHolder(path);
    if (held === null) continue;
    if (await isAlive(held.holder, path)) throw refused(dir, held.holder);
    if (await replaceStale(path, held.text, own)) return keep(path, own);
    await sleep(RETRY_MS);
  }
  throw new AppError(
    "CONFIG_INVALID",
    `spool folder ${dir}: its lock file changes all the time, as if several daemons started at once; give each an own folder`,
  );
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

async function readHolder(path: string): Promise<{ readonly text: string; readonly holder: Partial<Holder> } | null> {
  try {
    const text = await readFile(path, "utf8");
    try {
      return { text, holder: JSON.parse(text) as Partial<Holder> };
    } catch {
      // Damaged by a disk or a person: it names nobody, so it holds nothing.
      return { text, holder: {} };
    }
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw thrown;
  }
}

async function isAlive(holder: Partial<Holder>, path: string): Promise<boolean> {
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

async function currentHolder(): Promise<Holder> {
  return { ...(await ownIdentity()), host: hostname() };
}

function refused(dir: string, holder: Partial<Holder>): AppError {
  return new AppError(
    "CONFIG_INVALID",
    `spool folder ${dir} is used by another daemon (pid ${holder.pid} on ${holder.host}); stop that one or give this one its own folder. A daemon that died in another container is forgotten after ${FOREIGN_STALE_MS / 1000} s`,
  );
}
