import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
/** Programs of the clients that scripts/install-test-deps.sh installs from test/clients/requirements.txt. */
const BIN = join(import.meta.dirname, "../../.cache/python-clients/bin");
/** Longest life of a client unless its caller says more: it is ended then, and the test says so. */
const LIFE_MS = 240_000;

/**
 * Runs a program of the Python clients' environment to its end: `python` with a script of test/clients, or one that a package brings.
 * @returns its standard output
 * @throws Error with its standard error when it exits with another code than 0
 */
export async function runPythonClient(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  { lifeMs = LIFE_MS, cwd }: { readonly lifeMs?: number; readonly cwd?: string } = {},
): Promise<string> {
  try {
    const { stdout } = await run(join(BIN, program), args, {
      env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1", ...env },
      timeout: lifeMs,
      ...(cwd !== undefined && { cwd }),
      maxBuffer: 64 * 1024 * 1024,
    });
    return stdout;
  } catch (thrown) {
    const { stdout = "", stderr = "" } = thrown as { readonly stdout?: string; readonly stderr?: string };
    throw new Error(`${program} ${args.join(" ")} failed (scripts/install-test-deps.sh installs it): ${stdout}${stderr}`, {
      cause: thrown,
    });
  }
}
