import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { PACKAGE_DIR } from "../config/package-info.ts";
import { AppError } from "../protocol/error.ts";
import { ortDir } from "../worker/runners/runner-env.ts";

type Env = Readonly<Record<string, string | undefined>>;

/**
 * `dryapi fetch-cuda`: the package's own scripts/fetch-cuda.sh with these arguments; its exit code. What it fetches goes where this
 * installation's workers look (DRYAPI_ORT_DIR), unless --into says otherwise.
 * @throws AppError CONFIG_INVALID where the installation has no such script, as in a container
 */
export async function runFetchCuda(env: Env, args: readonly string[], packageDir: string = PACKAGE_DIR): Promise<number> {
  const script = join(packageDir, "scripts", "fetch-cuda.sh");
  if (!existsSync(script)) {
    throw new AppError(
      "CONFIG_INVALID",
      `${script} is not part of this installation, as in a container, which has the libraries already: take the image with CUDA, or set DRYAPI_ORT_DIR to a folder with onnxruntime's CUDA provider`,
    );
  }
  const into = args.includes("--into") ? [] : ["--into", ortDir(env)];
  const child = spawn("bash", [script, ...into, ...args], { env, stdio: "inherit" });
  const { promise: ended, resolve, reject } = Promise.withResolvers<number>();
  child.once("error", (cause) => reject(new AppError("CONFIG_INVALID", `bash cannot be started: ${cause.message}; install it`, { cause })));
  // Ctrl-C reaches the script as well: it cleans up and ends by the signal.
  child.once("exit", (code) => resolve(code ?? 130));
  return ended;
}
