import { mkdir, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { allDone } from "../../lib/all-done.ts";
import { isNoSpace } from "../../lib/errno.ts";
import { makeFolders } from "../../lib/make-folders.ts";
import { AppError } from "../../protocol/error.ts";
import { REQUEST_ID } from "../../protocol/job.ts";
import type { SpoolFile } from "../../protocol/result.ts";
import { digestOf, isOlder, listDirs, makeDir, readIfThere, removeIfEmpty, sizeOf } from "./spool-files.ts";
import { lockSpool } from "./spool-lock.ts";
import { parseClaimRecord, parseCompleteRecord, type ClaimRecord, type CompleteRecord } from "./spool-record.ts";

/**
 * The spool: where outputs wait between the runner and the object store, one folder per claim.
 *
 *   <dir>/lock                         the daemon that uses it
 *   <dir>/<id>/<claim>/claim.json      written before the runner gets the job
 *   <dir>/<id>/<claim>/in/             inputs, downloaded
 *   <dir>/<id>/<claim>/out/            the runner's files
 *   <dir>/<id>/<claim>/complete.json   the outputs are whole: from here on the GPU work is not repeated on this host
 *
 * It outlives the daemon, not a power cut: nothing is flushed, since flushing costs a short job more than all else around it. What a power
 * cut tears does not match its sha256 any more, and the job runs again, which is always right.
 */
export interface SpoolClaim {
  readonly claim: ClaimRecord;
  /** Absolute folders; `out` exists, `in` is made by whoever puts something there. */
  readonly dir: string;
  readonly inDir: string;
  readonly outDir: string;
}

export interface SpoolEntry extends SpoolClaim {
  readonly complete: CompleteRecord | null;
}

/** A claim whose outputs are whole. */
export interface CompleteEntry extends SpoolClaim {
  readonly complete: CompleteRecord;
}

export interface SpoolUsage {
  readonly usedBytes: number;
  /** On the disk that holds the spool, for this user. */
  readonly freeBytes: number;
  /** Bytes until a limit is met; 0 once one is. */
  readonly roomBytes: number;
  /** Why no more claims fit, null while they do. */
  readonly fullReason: string | null;
}

export interface SpoolOptions {
  /** Most bytes that the spool may hold. */
  readonly maxBytes: number;
  /** Least bytes to leave free on the disk. */
  readonly minFreeBytes: number;
  /** Told about folders that cannot be read; they are skipped. */
  readonly onProblem?: (message: string) => void;
  /** Unix milliseconds; for tests. */
  readonly now?: () => number;
}

const CLAIM_DIR = /^[1-9][0-9]{0,9}$/;

/** Creates and locks the folder. @throws AppError CONFIG_INVALID (locked, not writable) | SPOOL_FULL */
export async function openSpool(dir: string, options: SpoolOptions): Promise<Spool> {
  try {
    await makeFolders(dir);
    return new Spool(dir, options, await lockSpool(dir));
  } catch (thrown) {
    if (thrown instanceof AppError) throw thrown;
    if (isNoSpace(thrown)) throw spoolFull(dir, thrown);
    throw new AppError("CONFIG_INVALID", `spool folder ${dir} cannot be used: ${String(thrown)}`, {
      cause: thrown,
    });
  }
}

export class Spool implements AsyncDisposable {
  readonly dir: string;
  readonly #options: SpoolOptions;
  readonly #lock: AsyncDisposable;

  constructor(dir: string, options: SpoolOptions, lock: AsyncDisposable) {
    this.dir = dir;
    this.#options = options;
    this.#lock = lock;
  }

  /** Makes the folder of a claim. An earlier try of the same claim is replaced. @throws AppError SPOOL_FULL */
  async create(claim: ClaimRecord): Promise<SpoolClaim> {
    const made = this.#paths(claim);
    await this.#guard(async () => {
      await makeDir(join(this.dir, claim.id));
      if (!(await makeDir(made.dir))) {
        await rm(made.dir, { recursive: true, force: true });
        await mkdir(made.dir);
      }
      await allDone([mkdir(made.outDir), writeFile(join(made.dir, "claim.json"), JSON.stringify(claim))]);
    });
    return made;
  }

  /** Records that the outputs are whole. @throws AppError SPOOL_FULL */
  async complete(entry: SpoolClaim, record: CompleteRecord): Promise<void> {
    await this.#guard(() => writeFile(join(entry.dir, "complete.json"), JSON.stringify(record)));
  }

  /**
   * Compares files in `out` with what their maker said.
   * @throws AppError BAD_OUTPUT naming the first file that is missing, not a plain file, or has another size or sha256
   */
  async verify(entry: SpoolClaim, files: readonly SpoolFile[], signal?: AbortSignal): Promise<void> {
    for (const file of files) {
      const path = join(entry.outDir, file.name);
      const found = await digestOf(path, signal);
      const wrong = (what: string): AppError => new AppError("BAD_OUTPUT", `output ${path} ${what}`);
      if (found === null) throw wrong("does not exist or is not a plain file");
      if (found.sizeBytes !== file.sizeBytes) throw wrong(`has ${found.sizeBytes} bytes, its maker said ${file.sizeBytes}`);
      if (found.sha256 !== file.sha256) throw wrong(`has sha256 ${found.sha256}, its maker said ${file.sha256}`);
    }
  }

  /** All claims on disk, oldest claim of each job first. Unreadable ones are reported and left to `sweep`. */
  async scan(): Promise<readonly SpoolEntry[]> {
    const entries: SpoolEntry[] = [];
    for (const id of (await listDirs(this.dir)).toSorted()) {
      if (REQUEST_ID.test(id)) entries.push(...(await this.#scanJob(id)));
    }
    return entries;
  }

  /** The newest claim of a job whose outputs are whole on this disk, null when there is none. Verify it before use. */
  async findComplete(id: string): Promise<CompleteEntry | null> {
    const entries = await this.#scanJob(id);
    return entries.findLast(isComplete) ?? null;
  }

  /** Empties the folder for outputs, for one more run of the same claim. @throws AppError SPOOL_FULL */
  async emptyOutputs(entry: SpoolClaim): Promise<void> {
    await this.#guard(async () => {
      await rm(entry.outDir, { recursive: true, force: true });
      await mkdir(entry.outDir);
    });
  }

  /** Removes a job's claims up to this one: a later one may be under way again. Removing what is not there is no error. */
  async removeUpTo(id: string, claim: number): Promise<void> {
    await this.#removeWhere(id, (number) => number <= claim);
  }

  /** Removes one claim unless its outputs are whole. */
  async removeUnfinished(id: string, claim: number): Promise<void> {
    const entry = await this.#readEntry(id, claim);
    if (entry === null || !isComplete(entry)) await this.#removeWhere(id, (number) => number === claim);
  }

  async usage(): Promise<SpoolUsage> {
    const [usedBytes, disk] = await Promise.all([sizeOf(this.dir), statfs(this.dir)]);
    const freeBytes = disk.bavail * disk.bsize;
    const { maxBytes, minFreeBytes } = this.#options;
    let fullReason: string | null = null;
    if (freeBytes === 0) fullReason = `the disk of spool ${this.dir} is full`;
    else if (usedBytes >= maxBytes) fullReason = `spool ${this.dir} holds ${usedBytes} bytes, its limit is ${maxBytes}`;
    else if (freeBytes < minFreeBytes)
      fullReason = `the disk of spool ${this.dir} has ${freeBytes} bytes free, ${minFreeBytes} must stay free`;
    const roomBytes = Math.max(0, Math.min(maxBytes - usedBytes, freeBytes - minFreeBytes));
    return { usedBytes, freeBytes, roomBytes, fullReason };
  }

  /**
   * Removes what no claim owns: folders without a readable `claim.json`, empty job folders and temporary files, once they have been left
   * alone for `olderThanMs`. Returns how many.
   */
  async sweep(olderThanMs: number): Promise<number> {
    const now = this.#options.now?.() ?? Date.now();
    let removed = 0;
    for (const name of await readdir(this.dir)) {
      if (name === "lock") continue;
      const path = join(this.dir, name);
      if (REQUEST_ID.test(name) && (await this.#sweepJob(path, name, now - olderThanMs)) > 0) removed += 1;
      else if (name.startsWith("lock.") && (await isOlder(path, now - olderThanMs))) {
        await rm(path, { force: true });
        removed += 1;
      }
    }
    return removed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lock[Symbol.asyncDispose]();
  }

  async #removeWhere(id: string, matches: (claim: number) => boolean): Promise<void> {
    if (!REQUEST_ID.test(id)) throw new AppError("INTERNAL", `spool: ${JSON.stringify(id)} is no request id; this is a bug`);
    const job = join(this.dir, id);
    const claims = (await listDirs(job)).filter((name) => CLAIM_DIR.test(name) && matches(Number(name)));
    await Promise.all(claims.map((name) => rm(join(job, name), { recursive: true, force: true })));
    await removeIfEmpty(job);
  }

  async #sweepJob(path: string, id: string, before: number): Promise<number> {
    const kept = new Set((await this.#scanJob(id)).map((entry) => entry.dir));
    // Asked first: removing what is inside makes the folder young again.
    const jobIsOld = await isOlder(path, before);
    let removed = 0;
    for (const name of await listDirs(path)) {
      const dir = join(path, name);
      if (kept.has(dir) || !(await isOlder(dir, before))) continue;
      await rm(dir, { recursive: true, force: true });
      removed += 1;
    }
    if (kept.size === 0 && jobIsOld && (await removeIfEmpty(path))) removed += 1;
    return removed;
  }

  async #scanJob(id: string): Promise<SpoolEntry[]> {
    const claims = (await listDirs(join(this.dir, id))).filter((name) => CLAIM_DIR.test(name)).map(Number);
    const entries: SpoolEntry[] = [];
    for (const claim of claims.toSorted((a, b) => a - b)) {
      const entry = await this.#readEntry(id, claim);
      if (entry !== null) entries.push(entry);
    }
    return entries;
  }

  async #readEntry(id: string, claim: number): Promise<SpoolEntry | null> {
    const dir = join(this.dir, id, String(claim));
    const claimText = await readIfThere(join(dir, "claim.json"));
    if (claimText === null) return null;
    try {
      const record = parseClaimRecord(claimText, join(dir, "claim.json"));
      if (record.id !== id || record.claim !== claim)
        throw new AppError("BAD_OUTPUT", `spool folder ${dir} belongs to ${record.id}/${record.claim}`);
      return { ...this.#paths(record), complete: await this.#readComplete(dir) };
    } catch (thrown) {
      this.#options.onProblem?.(thrown instanceof Error ? thrown.message : String(thrown));
      return null;
    }
  }

  /** A damaged record counts as none: the job then runs again, which is always right. */
  async #readComplete(dir: string): Promise<CompleteRecord | null> {
    const path = join(dir, "complete.json");
    const text = await readIfThere(path);
    if (text === null) return null;
    try {
      return parseCompleteRecord(text, path);
    } catch (thrown) {
      this.#options.onProblem?.(thrown instanceof Error ? thrown.message : String(thrown));
      return null;
    }
  }

  #paths(claim: ClaimRecord): SpoolClaim {
    const dir = join(this.dir, claim.id, String(claim.claim));
    return { claim, dir, inDir: join(dir, "in"), outDir: join(dir, "out") };
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (thrown) {
      if (isNoSpace(thrown)) throw spoolFull(this.dir, thrown);
      throw thrown;
    }
  }
}

export function isComplete(entry: SpoolEntry): entry is CompleteEntry {
  return entry.complete !== null;
}

/** For whoever else writes into the spool: ENOSPC as what it means. */
export function spoolFull(dir: string, cause: unknown): AppError {
  return new AppError(
    "SPOOL_FULL",
    `spool ${dir}: ${cause instanceof Error ? cause.message : String(cause)}; free space on that disk or set another spool folder`,
    {
      cause,
    },
  );
}
