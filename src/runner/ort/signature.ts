/**
 * How a function of onnxruntime's C API is written down, and what TypeScript makes of it: objects are pointers with a kind, so that a
 * session is never passed where an environment is meant.
 */

/** The library's opaque objects, by their names in the header less `Ort`. */
export type Kind =
  | "Allocator"
  | "CUDAProviderOptions"
  | "Env"
  | "EpAssignedNode"
  | "EpAssignedSubgraph"
  | "EpDevice"
  | "HardwareDevice"
  | "IoBinding"
  | "KeyValuePairs"
  | "MemoryInfo"
  | "RunOptions"
  | "Session"
  | "SessionOptions"
  | "Status"
  | "TensorRTProviderOptions"
  | "TensorTypeAndShapeInfo"
  | "TypeInfo"
  | "Value";

declare const kind: unique symbol;
/** The address of one of the library's objects. */
export type Pointer<K extends Kind> = bigint & { readonly [kind]: K };

/**
 * What a parameter is in C:
 *   `Env*` and so on   an object
 *   `text`, `texts`    const char*, const char* const*
 *   `memory`           any address: of an array of this process, or of the library's
 *   `int`, `size`      int or an enum; size_t or int64_t
 */
export type Parameter = `${Kind}*` | "text" | "texts" | "memory" | "int" | "size";
/** What a function writes through its last parameters. `address` is any pointer. */
export type Output = `${Kind}*` | "address" | "int" | "size";
/** Almost all return a status, which is null when all went well. */
export type Returned = "status" | "void" | "text" | "int" | `${Kind}*`;

/** An address of the library's, or memory of this process; memory must stay referenced for as long as the library may use it. */
export type Memory = bigint | NodeJS.TypedArray;

type ParameterType<P> = P extends `${infer K extends Kind}*`
  ? Pointer<K>
  : P extends "text"
    ? string
    : P extends "texts"
      ? readonly string[]
      : P extends "memory"
        ? Memory
        : number;

type OutputType<O> = O extends `${infer K extends Kind}*` ? Pointer<K> : O extends "address" ? bigint : number;
type ReturnedType<R> = R extends "void" | "status" ? void : R extends "text" ? string : R extends "int" ? number : OutputType<R>;

export interface Signature {
  /** Place in the function table, which only ever grows at its end. */
  readonly index: number;
  readonly parameters: readonly Parameter[];
  readonly outputs: readonly Output[];
  readonly returns: Returned;
}

type Values<P extends readonly unknown[]> = { -readonly [I in keyof P]: ParameterType<P[I]> };
type Results<S extends Signature> = S["outputs"] extends readonly []
  ? ReturnedType<S["returns"]>
  : S["outputs"] extends readonly [infer One]
    ? OutputType<One>
    : S["outputs"] extends readonly [infer One, infer Two]
      ? readonly [OutputType<One>, OutputType<Two>]
      : never;

/** The function that TypeScript calls: outputs are returned, and a status is thrown as an OrtFailure. */
export type Call<S extends Signature> = (...args: Values<S["parameters"]>) => Results<S>;
/** The same on a thread of libuv's pool. */
export type AsyncCall<S extends Signature> = (...args: Values<S["parameters"]>) => Promise<Results<S>>;
