/**
 * The seam between pipelines and onnxruntime: the smallest one that a model family needs. The real one is in runner/; tests of
 * pipelines may use it as well, since it works in any process.
 */
export type TensorType = "float32" | "float16" | "int64" | "int32" | "uint8" | "bool";

/** Row-major. float16 data are raw bits; int64 are bigints; bool are 0/1. */
export type Tensor =
  | { readonly type: "float32"; readonly data: Float32Array; readonly dims: readonly number[] }
  | { readonly type: "float16"; readonly data: Uint16Array; readonly dims: readonly number[] }
  | { readonly type: "int64"; readonly data: BigInt64Array; readonly dims: readonly number[] }
  | { readonly type: "int32"; readonly data: Int32Array; readonly dims: readonly number[] }
  | { readonly type: "uint8" | "bool"; readonly data: Uint8Array; readonly dims: readonly number[] };

/** A graph edge as the session declares it. Symbolic dimensions are their names. */
export interface TensorInfo {
  readonly name: string;
  readonly type: TensorType;
  readonly dims: readonly (number | string)[];
}

export interface Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /** Blocks the event loop while it runs (onnxruntime-node). @throws AppError OUT_OF_MEMORY | PIPELINE_FAILED | DEVICE_FAILED | DEVICE_UNAVAILABLE */
  run(feeds: Readonly<Record<string, Tensor>>): Promise<Readonly<Record<string, Tensor>>>;
  /** Milliseconds spent inside native runs so far. */
  readonly runMs: number;
  release(): Promise<void>;
}

export interface Backend {
  /** Opens a graph by path (never from a buffer: external data, memory). @throws AppError MODEL_CORRUPT | MODEL_UNSUPPORTED | OUT_OF_MEMORY | DEVICE_UNAVAILABLE */
  open(path: string): Promise<Session>;
}
