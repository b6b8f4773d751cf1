import { join } from "node:path";
import type { LoadCommand } from "../protocol/ipc.ts";
import { layerOptions, type RuntimeOptions } from "../protocol/runtime-options.ts";
import type { OrtSettings } from "./ort/session-options.ts";

export interface GraphOptions {
  readonly settings: Required<Pick<OrtSettings, "runtime" | "epLibraries" | "onProvider">>;
  /** What the providers of the graphs opened so far report, each text once. */
  readonly reports: () => readonly string[];
}

/** The runtime options of a model's graphs: the operator's before the part's, the part's before the manifest's. */
export function graphOptions({ manifest, modelDir, runtime, epLibraries = {} }: LoadCommand): GraphOptions {
  const reports = new Set<string>();
  const parts = new Map<string, RuntimeOptions>(
    Object.values(manifest.parts).map((part) => [join(modelDir, part.file), layerOptions(manifest.runtime, part.runtime, runtime)]),
  );
  const rest = layerOptions(manifest.runtime, runtime);
  return {
    settings: {
      runtime: (path) => parts.get(path) ?? rest,
      epLibraries,
      onProvider: ({ provider, options }) => reports.add(options === "" ? provider : `${provider} ${options}`),
    },
    reports: () => [...reports],
  };
}
