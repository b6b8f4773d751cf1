import { join } from "node:path";
import { sleep } from "../../lib/backoff.ts";
import { tryLock, type LockHolder } from "../../lib/process-lock.ts";

const NAME = ".pull.lock";
const LOOK_EVERY_MS = 100;

/**
 * One process at a time changes what is pulled into a folder of models; others wait. A lock whose process was killed is taken over at once.
 * @param does what for, such as `pulls Kokoro` @param onWait told of whoever has it, once for each. Rejects with `signal.reason`
 */
export async function lockPulls(
  root: string,
  does: string,
  onWait: (other: LockHolder) => void,
  signal?: AbortSignal,
): Promise<AsyncDisposable> {
  let told = "";
  for (;;) {
    signal?.throwIfAborted();
    const tried = await tryLock(join(root, NAME), does);
    if ("lock" in tried) return tried.lock;
    const text = JSON.stringify(tried.holder);
    if (tried.holder !== null && text !== told) onWait(tried.holder);
    told = text;
    await sleep(LOOK_EVERY_MS, signal);
  }
}
