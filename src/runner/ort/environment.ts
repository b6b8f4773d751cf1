import { AppError } from "../../protocol/error.ts";
import { Handle } from "./handle.ts";
import { loadLibrary, packagedLibrary, type Library } from "./library.ts";
import type { Pointer } from "./signature.ts";

/** ORT_LOGGING_LEVEL_ERROR: errors reach stderr, where the daemon keeps the last lines for the failed job. */
export const LOG_ERRORS = 3;
/** OrtDeviceAllocator, OrtMemTypeDefault. */
const PLAIN_ALLOCATOR = 0;
const DEFAULT_MEMORY = 0;

/** onnxruntime as this process has loaded it: one library and one environment, until the process ends. */
export interface Environment {
  readonly library: Library;
  readonly pointer: Pointer<"Env">;
  /** Where this process' own memory is. */
  readonly hostMemory: Pointer<"MemoryInfo">;
  /** For texts and arrays that the library hands out. */
  readonly allocator: Pointer<"Allocator">;
  /** Of runs under way: the process' end asks each of them to end. */
  readonly running: Set<Pointer<"RunOptions">>;
}

let opened: { readonly path: string; readonly environment: Promise<Environment> } | null = null;

/**
 * Loads the library on the first call. A process has one: later calls for another path are refused.
 * @throws AppError INTERNAL unless ORT_DISABLE_TELEMETRY=1 was set before: onnxruntime sends model names and run counts home otherwise
 * (measured: 1.29 and later, by default)
 */
export function openEnvironment(path: string = packagedLibrary()): Promise<Environment> {
  requireNoTelemetry();
  if (opened !== null && opened.path !== path) {
    throw new AppError("INTERNAL", `${opened.path} is loaded, ${path} cannot be loaded beside it: this is a bug`);
  }
  opened ??= { path, environment: create(path) };
  // What could not be loaded may be tried again, from another folder too.
  opened.environment.catch(() => {
    opened = null;
  });
  return opened.environment;
}

export function requireNoTelemetry(): void {
  if (process.env["ORT_DISABLE_TELEMETRY"] === "1") return;
  throw new AppError("INTERNAL", "ORT_DISABLE_TELEMETRY is not 1: onnxruntime would phone home; whoever starts this process must set it");
}

async function create(path: string): Promise<Environment> {
  const library = await loadLibrary(path);
  const { call } = library;
  const pointer = call.CreateEnv(LOG_ERRORS, "dryapi");
  call.DisableTelemetryEvents(pointer);
  const running = new Set<Pointer<"RunOptions">>();
  // `process.exit` waits for the threads of the pool (measured): a run that went on would hold the process for as long as it takes.
  process.once("exit", () => {
    for (const options of running) call.RunOptionsSetTerminate(options);
  });
  return {
    running,
    library,
    pointer,
    hostMemory: call.CreateCpuMemoryInfo(PLAIN_ALLOCATOR, DEFAULT_MEMORY),
    allocator: call.GetAllocatorWithDefaultOptions(),
  };
}

/** A text that the library allocated for us: read and freed. */
export function takeText({ library, allocator }: Environment, address: bigint): string {
  const text = library.text(address);
  library.call.AllocatorFree(allocator, address);
  return text;
}

/** An object that the library has made for us: ours to release, with the function for its kind. */
export function owned<K extends "Session" | "SessionOptions" | "RunOptions" | "IoBinding" | "Value">(
  { library: { call } }: Environment,
  kind: K,
  what: string,
  pointer: Pointer<K>,
): Handle<K> {
  const releases = {
    Session: call.ReleaseSession,
    SessionOptions: call.ReleaseSessionOptions,
    RunOptions: call.ReleaseRunOptions,
    IoBinding: call.ReleaseIoBinding,
    Value: call.ReleaseValue,
  };
  return new Handle(what, pointer, releases[kind] as (pointer: Pointer<K>) => void);
}
