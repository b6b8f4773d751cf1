import { sleep as realSleep, type Sleep } from "../lib/backoff.ts";
import { judgeProcess, type ProcessIdentity } from "../lib/process-identity.ts";
import { untilAborted } from "../lib/until-aborted.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import type { NameHolder } from "../state/state-types.ts";

export interface WorkerNameOptions {
  readonly name: string;
  readonly own: ProcessIdentity;
  /** Announces this daemon, as `Registry.announce`. @throws AppError REDIS_UNAVAILABLE */
  readonly announce: (replaces?: string) => Promise<NameHolder | null>;
  readonly judge?: typeof judgeProcess;
  readonly sleep?: Sleep;
}

/** A living daemon announces itself every ten seconds, a dead one's entry expires after 35. */
const LOOK_EVERY_MS = 2_000;

/** The worker's name in Redis: one living daemon has it, since claims, load intents and passed-on jobs are told apart by it. */
export class WorkerName {
  readonly #options: WorkerNameOptions;

  constructor(options: WorkerNameOptions) {
    this.#options = options;
  }

  /** Announces; null, or who else has the name and is not known to be gone. @throws AppError REDIS_UNAVAILABLE */
  async announce(): Promise<NameHolder | null> {
    const { announce, own, judge = judgeProcess } = this.#options;
    const holder = await announce();
    const process = holder?.process ?? null;
    if (holder === null || process === null || (await judge(process, own)) !== "gone") return holder;
    // Killed on this very machine: nobody needs to wait for its entry's end.
    return announce(holder.text);
  }

  /**
   * For the start. A holder that cannot be looked at, in another container or on another machine, shows that it lives by announcing itself
   * again; until then its entry's end is waited for, and that of one that drains in any case. True once the name is ours; false when Redis
   * is away, or the signal aborted: `announce` goes on trying.
   * @throws AppError CONFIG_INVALID that names the daemon which has the name
   */
  async take({ signal, onWait }: { readonly signal: AbortSignal; readonly onWait: (message: string) => void }): Promise<boolean> {
    const { name, own, judge = judgeProcess, sleep = realSleep } = this.#options;
    let seen: NameHolder | null = null;
    while (!signal.aborted) {
      const holder = await Promise.race([this.#ask(), untilAborted(signal)]);
      if (holder === null) return true;
      if (holder === undefined) return false;
      const isAlive = holder.process !== null && (await judge(holder.process, own)) === "alive";
      if (!holder.draining && (isAlive || isRenewed(seen, holder))) throw refused(name, holder);
      if (!isSame(seen, holder)) {
        onWait(`the worker name ${JSON.stringify(name)} is that of ${described(holder)}; waiting until it is free or known to be in use`);
        seen = holder;
      }
      await sleep(LOOK_EVERY_MS, signal).catch(() => undefined);
    }
    return false;
  }

  /** Undefined when Redis is away. */
  async #ask(): Promise<NameHolder | null | undefined> {
    try {
      return await this.announce();
    } catch (thrown) {
      if (asAppError(thrown).code === "REDIS_UNAVAILABLE") return undefined;
      throw thrown;
    }
  }
}

function isSame(seen: NameHolder | null, holder: NameHolder): boolean {
  return seen !== null && seen.instance === holder.instance && seen.host === holder.host && seen.pid === holder.pid;
}

function isRenewed(seen: NameHolder | null, holder: NameHolder): boolean {
  return isSame(seen, holder) && seen?.text !== holder.text;
}

/** For people: which daemon it is. */
export function described({ host, pid, since, draining }: NameHolder): string {
  const from = since === null ? "" : `, since ${new Date(since).toISOString()}`;
  return `a daemon on host ${host} (pid ${pid ?? "unknown"}${from}${draining ? ", draining" : ""})`;
}

function refused(name: string, holder: NameHolder): AppError {
  return new AppError(
    "CONFIG_INVALID",
    `DRYAPI_WORKER_NAME is ${JSON.stringify(name)}, which is the name of ${described(holder)}, expected a name of its own for each daemon; set DRYAPI_WORKER_NAME to another (the default is the host's name), or stop that one`,
  );
}
