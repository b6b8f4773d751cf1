import { packagedOrt, findOrtLibrary } from "../../lib/ort-files.ts";
import { AppError } from "../../protocol/error.ts";
import { API, API_VERSION, type Api, type ApiName } from "./api-table.ts";
import type { AsyncCall, Call, Output, Parameter, Signature } from "./signature.ts";
import { loadKoffi, type KoffiModule } from "./koffi.ts";
import { OrtFailure } from "./ort-failure.ts";

type Native = ReturnType<ReturnType<KoffiModule["load"]>["func"]>;

/** C functions run on a stack that koffi makes (128 KiB by default): as much as a thread of the library's own would have. */
const STACK_BYTES = 8 * 1024 * 1024;

/** The functions of a loaded onnxruntime, called on this thread. */
export type Functions = { readonly [N in ApiName]: Call<Api[N]> };
/** Those that take long, called on a thread of libuv's pool. */
export type AsyncFunctions = { readonly [N in LongName]: AsyncCall<Api[N]> };
const LONG_NAMES = ["CreateSession", "RunWithBinding"] as const satisfies readonly ApiName[];
type LongName = (typeof LONG_NAMES)[number];

export interface Library {
  /** Absolute. */
  readonly path: string;
  /** As the library says it, such as 1.30.0. */
  readonly version: string;
  readonly call: Functions;
  readonly callAsync: AsyncFunctions;
  /** Reads a text of the library's. */
  readonly text: (address: bigint) => string;
  /** Reads `count` addresses from an array of the library's; it may be null where there are none. */
  readonly addresses: (address: bigint, count: number) => readonly bigint[];
  /** The library's memory as an ArrayBuffer: valid for as long as the object that it belongs to. */
  readonly view: (address: bigint, bytes: number) => ArrayBuffer;
  /** Where an array of this process lies. It stays there for as long as the array is referenced. */
  readonly addressOf: (array: NodeJS.TypedArray) => bigint;
}

/**
 * koffi unloads a library when its object is collected, whatever still points into it (seen: calls into unmapped memory). Nothing loaded
 * here is ever unloaded.
 */
const KEPT: unknown[] = [];

/** The npm package's own library for this platform. @throws AppError DEVICE_UNAVAILABLE where it has none */
export function packagedLibrary(): string {
  const { dir } = packagedOrt();
  const library = findOrtLibrary(dir);
  if (library !== null) return library;
  throw new AppError(
    "DEVICE_UNAVAILABLE",
    `onnxruntime-node has no library for ${process.platform} on ${process.arch} (looked in ${dir}): set DRYAPI_ORT_DIR to a folder with one`,
  );
}

/**
 * Loads onnxruntime and binds the functions of the table.
 * @throws AppError DEVICE_UNAVAILABLE when the library cannot be loaded here or is too old, or koffi cannot be
 */
export async function loadLibrary(path: string): Promise<Library> {
  const koffi = loadKoffi();
  configure(koffi);
  let getBase: Native;
  try {
    const library = koffi.load(path);
    KEPT.push(library);
    getBase = library.func("OrtGetApiBase", "void *", []);
  } catch (thrown) {
    throw new AppError("DEVICE_UNAVAILABLE", `onnxruntime cannot be loaded from ${path}: ${(thrown as Error).message}`, { cause: thrown });
  }
  const base = getBase() as bigint;
  const [getApi, getVersion] = [0n, 8n].map((offset) => koffi.decode(base + offset, "void *") as bigint);
  const version = koffi.call(getVersion, koffi.proto("const char *()")) as string;
  const api = koffi.call(getApi, koffi.proto("void *(uint32_t)"), API_VERSION) as bigint | null;
  if (api === null || api === 0n) throw tooOld(path, version);
  return bind(koffi, { path, version, api });
}

let configured = false;

/** Once: koffi refuses it after the first load, also after one that failed. */
function configure(koffi: KoffiModule): void {
  if (configured) return;
  koffi.config({ sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
  configured = true;
}

function tooOld(path: string, version: string): AppError {
  return new AppError(
    "DEVICE_UNAVAILABLE",
    `${path} is onnxruntime ${version}, expected 1.${API_VERSION} or later: point DRYAPI_ORT_DIR to a newer one, or leave it out`,
  );
}

function bind(
  koffi: KoffiModule,
  { path, version, api }: { readonly path: string; readonly version: string; readonly api: bigint },
): Library {
  const natives = new Map(
    Object.entries<Signature>(API).map(([name, signature]) => {
      const address = koffi.decode(api + 8n * BigInt(signature.index), "void *") as bigint;
      return [name, koffi.decode(address, prototype(koffi, signature)) as Native];
    }),
  );
  const native = (name: string): Native => natives.get(name)!;
  const check = (status: bigint | null): void => {
    if (status === null) return;
    const code = native("GetErrorCode")(status) as number;
    const message = native("GetErrorMessage")(status) as string;
    native("ReleaseStatus")(status);
    throw new OrtFailure(code, message);
  };
  const sync = Object.entries<Signature>(API).map(([name, signature]) => [name, syncCall(native(name), signature, check)]);
  const long = LONG_NAMES.map((name) => [name, asyncCall(native(name), API[name], check)]);
  return {
    path,
    version,
    call: Object.fromEntries(sync) as Functions,
    callAsync: Object.fromEntries(long) as AsyncFunctions,
    text: (address) => koffi.decode(address, "const char", -1) as string,
    addresses: (address, count) => (count === 0 ? [] : (koffi.decode(address, "void *", count) as readonly bigint[])),
    view: (address, bytes) => koffi.view(address, bytes),
    // V8 moves small arrays within its own heap; Node-API, which koffi asks, takes the array out of it for good (library.test.ts).
    addressOf: (array) => koffi.address(array),
  };
}

const C_TYPES: Readonly<Record<string, string>> = { text: "const char *", texts: "const char **", int: "int", size: "int64_t" };

/** Outputs are addresses of slots of ours. */
function prototype(koffi: KoffiModule, { parameters, outputs, returns }: Signature): ReturnType<KoffiModule["proto"]> {
  const types = [...parameters.map((parameter: Parameter) => C_TYPES[parameter] ?? "void *"), ...outputs.map(() => "void *")];
  return koffi.proto(returns === "void" ? "void" : (C_TYPES[returns] ?? "void *"), types);
}

type Check = (status: bigint | null) => void;

/** The slots serve all calls of the function: the library calls nothing of ours, so that no two of them are under way on this thread. */
function syncCall(native: Native, { outputs, returns }: Signature, check: Check): (...args: unknown[]) => unknown {
  if (returns !== "status") return (...args) => native(...args) as unknown;
  const slots = outputs.map(() => new BigUint64Array(1));
  const [slot] = slots;
  if (slot === undefined) return (...args) => check(native(...args) as bigint | null);
  if (slots.length > 1) {
    return (...args) => {
      check(native(...args, ...slots) as bigint | null);
      return results(outputs, slots);
    };
  }
  const isNumber = isNumeric(outputs[0]);
  return (...args) => {
    check(native(...args, slot) as bigint | null);
    return isNumber ? Number(slot[0]) : slot[0];
  };
}

/** The arguments and the slots stay referenced until the call has ended. */
function asyncCall(native: Native, { outputs }: Signature, check: Check): (...args: unknown[]) => Promise<unknown> {
  return async (...args) => {
    const slots = outputs.map(() => new BigUint64Array(1));
    const status = await new Promise<bigint | null>((resolve, reject) => {
      native.async(...args, ...slots, (error: unknown, returned: bigint | null) => {
        if (error === null) resolve(returned);
        else reject(error);
      });
    });
    check(status);
    return results(outputs, slots);
  };
}

function results(outputs: readonly Output[], slots: readonly BigUint64Array[]): unknown {
  const values = outputs.map((output, at) => (isNumeric(output) ? Number(slots[at]![0]) : slots[at]![0]));
  return values.length <= 1 ? values[0] : values;
}

function isNumeric(output: Output | undefined): boolean {
  return output === "int" || output === "size";
}
