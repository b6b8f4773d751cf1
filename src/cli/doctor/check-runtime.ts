import type { Config } from "../../config/config.ts";
import { asAppError } from "../../protocol/error.ts";
import type { RuntimeFacts } from "../../protocol/ipc.ts";
import { checkRuntime } from "../../worker/check-runtime.ts";
import { findCudaProvider, machineCudaProbes } from "../../worker/devices/cuda-provider.ts";
import { proveDevice } from "../../worker/devices/prove-device.ts";
import { usedOrtDir } from "../../worker/runners/runner-env.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

type Env = Readonly<Record<string, string | undefined>>;

const CHECK = "onnxruntime";
const FALLBACK_FIX =
  "install the package anew with its optional dependencies (koffi's binaries are among them), or set DRYAPI_RUNTIME=node if that is meant";
const LOAD_FIX =
  "correct DRYAPI_ORT_DIR or DRYAPI_RUNTIME, or leave them out; without them the npm package's own onnxruntime is used: install the package anew";

/**
 * Which onnxruntime a runner loads and how it is called, as a runner says it: a library that takes its process down takes none of ours.
 * On the CPU, with the library that the device's runners would load; whether a GPU computes is the devices' own check.
 */
export async function checkOnnxRuntime(env: Env, config: Pick<Config, "runtime" | "ortDir" | "device">): Promise<readonly Finding[]> {
  const problem = await checkRuntime(config);
  if (problem?.level === "fail") return [fail(CHECK, problem.message, LOAD_FIX)];
  const findings = problem === null ? [] : [warn(CHECK, problem.message, "take a newer one, or leave DRYAPI_ORT_DIR out")];
  const provider = await cudaProvider(env, config);
  const dir = usedOrtDir(env, provider === null ? config.device : "cuda");
  try {
    const { runtime } = await proveDevice(
      { id: "cpu:0", kind: "cpu", index: 0, threads: 1 },
      { env: dir === null ? env : { ...env, DRYAPI_ORT_DIR: dir }, log: { debug: () => undefined, warn: () => undefined } },
    );
    if (runtime !== undefined) findings.push(...describe(runtime, config.ortDir));
  } catch (thrown) {
    findings.push(fail(CHECK, asAppError(thrown).message, LOAD_FIX));
  }
  return provider === null ? findings : [...findings, provider];
}

function describe(runtime: RuntimeFacts, given: string | null): readonly Finding[] {
  const { api, version, library, koffi, available, fallback } = runtime;
  const how = api === "c" ? `through its C API (koffi ${koffi})` : "through onnxruntime-node's own API";
  const whose = given === null ? "" : " of DRYAPI_ORT_DIR";
  const said = ok(CHECK, `${version} ${how}: ${library}${whose}; it knows ${available.join(", ")}`);
  return fallback === undefined ? [said] : [said, warn(CHECK, fallback, FALLBACK_FIX)];
}

/** Null where no GPU would be used, or no provider can be: what is missing then the devices' own check says. */
async function cudaProvider(env: Env, { device }: Pick<Config, "device">): Promise<Finding | null> {
  if (device !== "cuda" && device !== "auto") return null;
  const found = await findCudaProvider(env, machineCudaProbes());
  return found.ok ? ok("cuda provider", `onnxruntime ${found.version} for CUDA ${found.cudaMajor}: ${found.path}`) : null;
}
