import { fork, type ChildProcess } from "node:child_process";
import { extname, join } from "node:path";
import { findProgram, pathFolders } from "../../lib/find-program.ts";
import { AppError } from "../../protocol/error.ts";
import { runnerEnv } from "./runner-env.ts";
import type { RunnerOptions } from "./runner-types.ts";

/** The child's entry beside us: `.ts` in a checkout, `.js` in the package (tsc does not rewrite paths in strings). */
const ENTRY: string = join(import.meta.dirname, "..", "..", "runner", `main${extname(import.meta.filename)}`);

export interface ForkOptions extends Pick<RunnerOptions, "env" | "device" | "setpriv" | "entry"> {
  /** As messages name it: `model <slug>`. */
  readonly purpose: string;
}

/**
 * Forks a runner that cannot outlive this process: through `setpriv --pdeathsig KILL` the kernel kills it with its parent even inside a
 * native call (measured < 50 ms); without setpriv it gets a thread that watches its parent. Must be called on the main thread: the
 * kernel's "parent" is the thread that forked.
 */
export async function forkRunner(options: ForkOptions): Promise<ChildProcess> {
  const env = runnerEnv(options.env ?? process.env, options.device);
  const setpriv = options.setpriv === undefined ? findProgram("setpriv", pathFolders(env)) : options.setpriv;
  const launch =
    setpriv === null
      ? { execPath: process.execPath, execArgv: [], env: { ...env, DRYAPI_PARENT_WATCH: "1" } }
      : { execPath: setpriv, execArgv: ["--pdeathsig", "KILL", "--", process.execPath], env };
  try {
    // stdout carries nothing of ours; a library that writes there must not end up between the daemon's JSON log lines.
    return fork(options.entry ?? ENTRY, [], { ...launch, serialization: "advanced", stdio: ["ignore", "ignore", "pipe", "ipc"] });
  } catch (cause) {
    throw new AppError("RUNNER_CRASHED", `no process could be started for ${options.purpose}: ${String(cause)}`, { cause });
  }
}
