import { join } from "node:path";
import type * as Ort from "onnxruntime-node";
import { setImmediate as turn } from "node:timers/promises";
import type { Backend, Binding, Feed, Session, Tensor, TensorInfo, TensorType, Traffic } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";
import type { DeviceSpec } from "../protocol/ipc.ts";
import { HostBinding } from "./host-binding.ts";
import { toHost } from "./host-tensor.ts";
import { openError, runError } from "./ort-error.ts";
import { RunGuard } from "./ort/run-guard.ts";
import { requireAll, requireEdge, requireFits } from "./tensor-checks.ts";

export interface NodeBackendOptions {
  readonly device: DeviceSpec;
  /** Sessions write a profile (`*.json`, one provider name per node) into this folder when they are released. Costs time: probes only. */
  readonly profileDir?: string;
  /** For measurements: replaces single settings of `sessionOptions`. */
  readonly override?: Ort.InferenceSession.SessionOptions;
}

type OrtModule = typeof Ort;

/**
 * onnxruntime-node's own API as a Backend, for platforms where the C API cannot be called (runner/open-backend.ts): a run blocks this
 * thread and cannot be ended, and nothing stays on the device between runs. Nothing native is loaded before the first `open`.
 *
 * A GPU is asked for alone: onnxruntime then fails when the provider is not there. It still puts single nodes that the provider lacks
 * (shape arithmetic) on the CPU; that the device computes at all is proved by the probe, through `profileDir`.
 *
 * @throws AppError INTERNAL unless ORT_DISABLE_TELEMETRY=1 was set before the process started anything native: onnxruntime sends
 * model names and run counts home otherwise (measured: 1.29 and later, by default)
 */
export function openNodeBackend(options: NodeBackendOptions): Backend {
  if (process.env["ORT_DISABLE_TELEMETRY"] !== "1") {
    throw new AppError("INTERNAL", "ORT_DISABLE_TELEMETRY is not 1: onnxruntime would phone home; whoever starts this process must set it");
  }
  const guard = new RunGuard();
  return { open: (path) => openSession(path, options, guard), guard: (signal) => guard.watch(signal) };
}

async function openSession(path: string, options: NodeBackendOptions, guard: RunGuard): Promise<Session> {
  const { device } = options;
  const name = `${device.kind}:${device.index}`;
  const ort = await loadRuntime();
  // As before a run: the load blocks this thread.
  await turn();
  await turn();
  using _ = guard.begin(() => undefined, `the load of ${path}`);
  let native: Ort.InferenceSession;
  try {
    native = await ort.InferenceSession.create(path, { ...sessionOptions(options), ...options.override });
  } catch (thrown) {
    // What is missing the loader says on stderr; the daemon puts it into the message, with what to install.
    throw openError(thrown, path, name);
  }
  try {
    const inputs = native.inputMetadata.map((edge) => tensorInfo(edge, path));
    const outputs = native.outputMetadata.map((edge) => tensorInfo(edge, path));
    return new NodeSession(ort, native, { path, name, inputs, outputs, guard, profiled: options.profileDir !== undefined });
  } catch (thrown) {
    await native.release();
    throw thrown;
  }
}

async function loadRuntime(): Promise<OrtModule> {
  // CommonJS: its exports are behind `default`.
  const module = (await import("onnxruntime-node")) as OrtModule & { readonly default?: OrtModule };
  const ort = module.default ?? module;
  // Errors still reach stderr, where the daemon keeps the last lines for the failed job.
  ort.env.logLevel = "error";
  return ort;
}

/**
 * Choices, each measured with onnxruntime 1.30 on two cores (24 MatMul of 2048 x 2048 over 576 tokens, 400 MB; 8 Conv of 128 channels
 * at 160 x 160):
 *   prepacking on    opens in 0.28 s instead of 0.03 s (0.7 s a GB), each run takes 255 ms instead of 277 ms: a loaded model runs hundreds
 *                    of times. Conv and the tiny Flux models (0.13 s, 17 ms a job): no difference either way.
 *   CPU arena on     the same speed; after the Conv runs the process holds 208 MB instead of 326 MB (fewer fragments).
 *   memory patterns  no difference in time or memory; left on, as shapes repeat.
 *   spinning off     a runner mostly waits: idle threads burned a core each otherwise, at the same wall time.
 */
function sessionOptions({ device, profileDir }: NodeBackendOptions): Ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [provider(device)],
    graphOptimizationLevel: "all",
    executionMode: "sequential",
    intraOpNumThreads: device.threads,
    interOpNumThreads: 1,
    enableCpuMemArena: true,
    enableMemPattern: true,
    logSeverityLevel: 3,
    extra: {
      "session.intra_op.allow_spinning": "0",
      "session.inter_op.allow_spinning": "0",
    },
    ...(profileDir === undefined ? {} : { enableProfiling: true, profileFilePrefix: join(profileDir, "ort") }),
  };
}

function provider(device: DeviceSpec): Ort.InferenceSession.ExecutionProviderConfig {
  if (device.kind === "cuda") return { name: "cuda", deviceId: device.index };
  return { name: device.kind };
}

const TENSOR_TYPES: ReadonlySet<string> = new Set<TensorType>(["float32", "float16", "int64", "int32", "int8", "uint8", "bool"]);

function isTensorType(type: string): type is TensorType {
  return TENSOR_TYPES.has(type);
}

function tensorInfo(edge: Ort.InferenceSession.ValueMetadata, path: string): TensorInfo {
  if (!edge.isTensor) throw new AppError("MODEL_UNSUPPORTED", `${path}: ${edge.name} is no tensor, which is not supported`);
  if (isTensorType(edge.type)) return { name: edge.name, type: edge.type, dims: edge.shape };
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${path}: tensor ${edge.name} is ${edge.type}; expected one of ${[...TENSOR_TYPES].join(", ")}: add a Cast at that edge of the graph`,
  );
}

interface SessionFacts {
  readonly path: string;
  /** Device, for messages. */
  readonly name: string;
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly guard: RunGuard;
  readonly profiled: boolean;
}

class NodeSession implements Session {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly #ort: OrtModule;
  readonly #facts: SessionFacts;
  readonly #native: Ort.InferenceSession;
  #last: Promise<unknown> = Promise.resolve();
  #closing = false;
  #runMs = 0;
  #toDevice = 0;
  #toHost = 0;

  constructor(ort: OrtModule, native: Ort.InferenceSession, facts: SessionFacts) {
    this.#ort = ort;
    this.#native = native;
    this.#facts = facts;
    this.inputs = facts.inputs;
    this.outputs = facts.outputs;
  }

  get runMs(): number {
    return this.#runMs;
  }

  get traffic(): Traffic {
    return { toDevice: this.#toDevice, toHost: this.#toHost };
  }

  bind(): Binding {
    this.#requireOpen();
    return new HostBinding(this, this.#facts.path);
  }

  async run(feeds: Readonly<Record<string, Feed>>): Promise<Readonly<Record<string, Tensor>>> {
    this.#requireOpen();
    const { path } = this.#facts;
    const tensors = Object.entries(feeds).map(([key, feed]) => {
      requireFits(requireEdge("input", this.inputs, key, path), feed, path);
      return [key, toHost(feed, key)] as const;
    });
    requireAll(this.inputs, (name) => Object.hasOwn(feeds, name), path);
    return this.#next(() => this.#run(tensors));
  }

  async #run(tensors: readonly (readonly [string, Tensor])[]): Promise<Readonly<Record<string, Tensor>>> {
    const { path, name, guard } = this.#facts;
    // The run blocks this thread: what has arrived is read before. Two turns: the first may start inside the loop's poll phase, the second
    // surely has one before it, where commands are read.
    await turn();
    await turn();
    using _ = guard.begin(() => undefined);
    for (const [, { data }] of tensors) this.#toDevice += data.byteLength;
    const startedAt = performance.now();
    try {
      const results = await this.#native.run(Object.fromEntries(tensors.map(([key, tensor]) => [key, wrap(this.#ort, tensor)])));
      this.#runMs += performance.now() - startedAt;
      const unwrapped = Object.entries(results).map(([key, tensor]) => [key, unwrap(tensor, key, path)] as const);
      for (const [, { data }] of unwrapped) this.#toHost += data.byteLength;
      return Object.fromEntries(unwrapped);
    } catch (thrown) {
      throw thrown instanceof AppError ? thrown : runError(thrown, path, name);
    }
  }

  async release(): Promise<void> {
    const again = this.#closing;
    this.#closing = true;
    await this.#next(async () => {
      if (again) return;
      if (this.#facts.profiled) this.#native.endProfiling();
      await this.#native.release();
    });
  }

  /** After all that was asked for before. */
  #next<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  #requireOpen(): void {
    if (this.#closing) throw new AppError("INTERNAL", `${this.#facts.path} was run after its release: this is a bug`);
  }
}

/** Shares the data: onnxruntime reads inputs where they are. */
function wrap(ort: OrtModule, tensor: Tensor): Ort.Tensor {
  const wrapped = new ort.Tensor(tensor.type, tensor.data as never, tensor.dims);
  // onnxruntime-common turns the bits into a Float16Array where the language has one, and the binding of 1.30 then reads zero bytes.
  if (tensor.type === "float16") (wrapped as unknown as { cpuData: Uint16Array }).cpuData = tensor.data;
  return wrapped;
}

function unwrap(tensor: Ort.Tensor, name: string, path: string): Tensor {
  const { type, data, dims } = tensor;
  if (!isTensorType(type)) throw new AppError("MODEL_UNSUPPORTED", `${path}: output ${name} came back as ${type}`);
  if (type !== "float16") return { type, data, dims } as Tensor;
  const bits = data as unknown as Uint16Array;
  return { type, data: new Uint16Array(bits.buffer, bits.byteOffset, bits.length), dims };
}
