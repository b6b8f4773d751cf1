import type { Config } from "../config/config.ts";
import {
  compareVersions,
  findOrtLibrary,
  MIN_ORT_VERSION,
  ORT_NAMES,
  packagedOrt,
  readOrtVersion,
  whyNotForNode,
} from "../lib/ort-files.ts";
import { AppError } from "../protocol/error.ts";

type Settings = Pick<Config, "runtime" | "ortDir">;

export interface RuntimeProblem {
  /** `fail` keeps the worker from starting. */
  readonly level: "fail" | "warn";
  readonly message: string;
}

/** What is wrong with the onnxruntime that DRYAPI_ORT_DIR names, from its files alone: the daemon loads none. Null when nothing is. */
export async function checkRuntime({ runtime, ortDir }: Settings): Promise<RuntimeProblem | null> {
  if (ortDir === null) return null;
  const fail = (message: string): RuntimeProblem => ({ level: "fail", message });
  const library = findOrtLibrary(ortDir);
  if (library === null)
    return fail(
      `DRYAPI_ORT_DIR is ${ortDir}, which holds no onnxruntime (looked for ${ORT_NAMES}): \`dryapi fetch-cuda\` puts one for GPUs there, PyPI's onnxruntime has one in onnxruntime/capi; or leave the setting out`,
    );
  const version = await readOrtVersion(library);
  if (version !== null && compareVersions(version, MIN_ORT_VERSION) < 0)
    return fail(
      `DRYAPI_ORT_DIR: ${library} is onnxruntime ${version}, expected ${MIN_ORT_VERSION} or later: take a newer one, or leave the setting out`,
    );
  const refused = runtime === "node" ? await whyNotForNode(library) : null;
  if (refused !== null) return fail(`DRYAPI_RUNTIME=node: ${refused}`);
  const packaged = packagedOrt().version;
  if (version === null || compareVersions(version, packaged) >= 0) return null;
  return {
    level: "warn",
    message: `DRYAPI_ORT_DIR: ${library} is onnxruntime ${version}, older than the npm package's ${packaged}: models may need what it lacks; take a newer one, or leave the setting out`,
  };
}

/** @throws AppError CONFIG_INVALID when DRYAPI_ORT_DIR names an onnxruntime that cannot be used */
export async function requireRuntime(settings: Settings, onWarning: (message: string) => void): Promise<void> {
  const problem = await checkRuntime(settings);
  if (problem?.level === "fail") throw new AppError("CONFIG_INVALID", problem.message);
  if (problem !== null) onWarning(problem.message);
}
