/**
 * The seam between pipelines and onnxruntime: the smallest one that a model family needs. The real ones are in runner/; tests of
 * pipelines may use them as well, since they work in any process.
 */
export type TensorType = "float32" | "float16" | "int64" | "int32" | "int8" | "uint8" | "bool";

/** Row-major, in this process' memory. float16 data are raw bits; int64 are bigints; bool are 0/1. */
export type Tensor =
  | { readonly type: "float32"; readonly data: Float32Array; readonly dims: readonly number[] }
  | { readonly type: "float16"; readonly data: Uint16Array; readonly dims: readonly number[] }
  | { readonly type: "int64"; readonly data: BigInt64Array; readonly dims: readonly number[] }
  | { readonly type: "int32"; readonly data: Int32Array; readonly dims: readonly number[] }
  | { readonly type: "int8"; readonly data: Int8Array; readonly dims: readonly number[] }
  | { readonly type: "uint8" | "bool"; readonly data: Uint8Array; readonly dims: readonly number[] };

/** A tensor that stays where the session made it, on its device: to be fed to a session again, and disposed of. */
export interface DeviceTensor extends Disposable {
  readonly type: TensorType;
  readonly dims: readonly number[];
  readonly onDevice: true;
}

/** What an input takes. */
export type Feed = Tensor | DeviceTensor;

export function isOnDevice(feed: Feed): feed is DeviceTensor {
  return "onDevice" in feed;
}

/** A graph edge as the session declares it. Symbolic dimensions are their names. */
export interface TensorInfo {
  readonly name: string;
  readonly type: TensorType;
  readonly dims: readonly (number | string)[];
}

/** Bytes that crossed between this process' memory and the session's device. What stays on the device crosses nothing. */
export interface Traffic {
  /** Of tensors given as inputs. On a CPU they are read where they are. */
  readonly toDevice: number;
  /** Of outputs that came back. */
  readonly toHost: number;
}

/** What a run gave, by output: only those that are bound. */
export interface BoundResults {
  /** Those that were bound as `host`, in fresh memory, and those that were bound to memory of the caller's. */
  readonly host: Readonly<Record<string, Tensor>>;
  /** Those that were bound as `device`; they are the caller's from now on. */
  readonly device: Readonly<Record<string, DeviceTensor>>;
}

/**
 * Inputs and outputs that hold for several runs of a session: what does not change is given once. Not for use by two runs at a time.
 */
export interface Binding extends Disposable {
  /**
   * The value of the next runs. A tensor of this process is read now, where the device has memory of its own, and else during each run: who
   * changes its values gives it again, and leaves it alone during a run. A device tensor may be disposed of from then on.
   */
  input(name: string, value: Feed): void;
  /**
   * Where an output goes: `host` into fresh memory each time; a tensor of this process, whose type and dims must be what comes out, into
   * it, with no copy on a CPU; `device` stays on the device. Outputs that are not named are not given.
   */
  output(name: string, target: "host" | "device" | Tensor): void;
  /** @throws AppError as Session.run */
  run(): Promise<BoundResults>;
}

export interface Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  /**
   * One run, all outputs, in fresh memory. Runs of one session follow each other.
   * @throws AppError OUT_OF_MEMORY | PIPELINE_FAILED | DEVICE_FAILED | DEVICE_UNAVAILABLE, CANCELLED as Backend.guard says
   */
  run(feeds: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Tensor>>>;
  bind(): Binding;
  /** Milliseconds spent inside native runs so far. */
  readonly runMs: number;
  readonly traffic: Traffic;
  /** After the run under way. */
  release(): Promise<void>;
}

export interface Backend {
  /** Opens a graph by path (never from a buffer: external data, memory). @throws AppError MODEL_CORRUPT | MODEL_UNSUPPORTED | OUT_OF_MEMORY | DEVICE_UNAVAILABLE */
  open(path: string): Promise<Session>;
  /**
   * From now on runs end with CANCELLED once this signal aborts, between two nodes of the graph, and none begins after it; the session
   * stays usable. So do loads of graphs. Null: runs and loads go to their end. Where onnxruntime-node runs the graph, what has begun goes to
   * its end.
   */
  guard(signal: AbortSignal | null): void;
}
