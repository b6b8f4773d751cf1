import type { Config } from "../../config/config.ts";
import type { RunnerOptions } from "./runner-types.ts";

/** What the operator has every runner tell onnxruntime. */
export function onnxruntimeSettings({
  runtimeOptions,
  epLibraries,
}: Pick<Config, "runtimeOptions" | "epLibraries">): Pick<RunnerOptions, "runtime" | "epLibraries"> {
  return { ...(runtimeOptions !== null && { runtime: runtimeOptions }), ...(epLibraries !== null && { epLibraries }) };
}
