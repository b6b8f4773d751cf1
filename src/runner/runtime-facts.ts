import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { packagedOrt, readOrtVersion } from "../lib/ort-files.ts";
import type { RuntimeFacts } from "../protocol/ipc.ts";
import { openedRuntime, type ChosenRuntime } from "./open-backend.ts";
import { openEnvironment, type Environment } from "./ort/environment.ts";
import { loadKoffi } from "./ort/koffi.ts";

/** Which onnxruntime this process has loaded; null when it has none. Call it after a session was opened: it loads nothing that is not loaded. */
export async function runtimeFacts(): Promise<RuntimeFacts | null> {
  const chosen = openedRuntime();
  if (chosen === null) return null;
  return chosen.api === "c" ? factsOfC(await openEnvironment(chosen.library ?? undefined)) : factsOfNode(chosen);
}

function factsOfC(environment: Environment): RuntimeFacts {
  const { path, version } = environment.library;
  return { api: "c", version, library: path, koffi: loadKoffi().version, available: availableProviders(environment) };
}

function availableProviders({ library: { call, addresses, text } }: Environment): readonly string[] {
  const [list, count] = call.GetAvailableProviders();
  try {
    return addresses(list, count).map(text);
  } finally {
    call.ReleaseAvailableProviders(list, count);
  }
}

async function factsOfNode({ fallback }: ChosenRuntime): Promise<RuntimeFacts> {
  const { listSupportedBackends } = await import("onnxruntime-node");
  const library = (await mappedLibrary()) ?? join(packagedOrt().dir, "libonnxruntime.so.1");
  return {
    api: "node",
    version: (await readOrtVersion(library)) ?? packagedOrt().version,
    library,
    koffi: null,
    available: listSupportedBackends().map(({ name }) => name),
    ...(fallback !== undefined && { fallback }),
  };
}

/** Which of the libraries of that name the loader took, where the system says so. */
async function mappedLibrary(): Promise<string | null> {
  const maps = await readFile("/proc/self/maps", "utf8").catch(() => "");
  return /^\S+ \S+ \S+ \S+ \S+ +(\/.*\/libonnxruntime\.so\S*)$/m.exec(maps)?.[1] ?? null;
}
