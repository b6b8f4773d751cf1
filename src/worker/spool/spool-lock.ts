import { join } from "node:path";
import { FOREIGN_STALE_MS, tryLock } from "../../lib/process-lock.ts";
import { AppError } from "../../protocol/error.ts";

/**
 * Takes `<dir>/lock` for this process; one daemon per spool folder. A lock whose holder is gone is replaced. Disposing gives it back.
 * @throws AppError CONFIG_INVALID naming the holder
 */
export async function lockSpool(dir: string): Promise<AsyncDisposable> {
  const tried = await tryLock(join(dir, "lock"));
  if ("lock" in tried) return tried.lock;
  const { holder } = tried;
  throw new AppError(
    "CONFIG_INVALID",
    holder === null
      ? `spool folder ${dir}: its lock file changes all the time, as if several daemons started at once; give each an own folder`
      : `spool folder ${dir} is used by another daemon (pid ${holder.pid} on ${holder.host}); stop that one or give this one its own folder. A daemon that died in another container is forgotten after ${FOREIGN_STALE_MS / 1000} s`,
  );
}
