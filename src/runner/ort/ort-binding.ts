import {
  isOnDevice,
  type Binding,
  type BoundResults,
  type DeviceTensor,
  type Feed,
  type Tensor,
  type TensorInfo,
  type Traffic,
} from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { owned, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import type { Pointer } from "./signature.ts";
import { describeValue, hostValue, OrtDeviceTensor, readValue, sizeOf } from "./tensor-value.ts";

export type OutputPlaces = ReadonlyMap<string, Pointer<"MemoryInfo">>;

export interface BindingParts {
  readonly env: Environment;
  /** The graph's path, for messages. */
  readonly what: string;
  readonly pointer: Pointer<"IoBinding">;
  readonly places: OutputPlaces;
  readonly inputs: readonly TensorInfo[];
  readonly run: (binding: Handle<"IoBinding">) => Promise<void>;
  readonly failed: (thrown: unknown) => AppError;
  readonly crossed: (traffic: Traffic) => void;
  readonly ended: () => void;
}

type Target = "host" | "device" | Tensor;

/** onnxruntime's IoBinding. Memory of this process that the library may touch is referenced here until something else takes its place. */
export class OrtBinding implements Binding {
  readonly #parts: BindingParts;
  readonly #handle: Handle<"IoBinding">;
  readonly #inputs = new Map<string, Feed>();
  /** In the order in which they were bound first, which is that of the library's results. */
  readonly #outputs = new Map<string, Target>();
  /** Memory that a run under way works with. */
  #running: readonly unknown[] | null = null;

  constructor(parts: BindingParts) {
    this.#parts = parts;
    this.#handle = owned(parts.env, "IoBinding", `binding of ${parts.what}`, parts.pointer);
  }

  input(name: string, value: Feed): void {
    this.#requireIdle();
    const { env, crossed } = this.#parts;
    const { call } = env.library;
    if (isOnDevice(value)) {
      if (!(value instanceof OrtDeviceTensor)) throw new TypeError(`input ${name}: a device tensor of another backend: this is a bug`);
      this.#try(() => call.BindInput(this.#handle.pointer, name, value.value.pointer));
    } else {
      this.#try(() => {
        using bound = hostValue(env, name, value);
        call.BindInput(this.#handle.pointer, name, bound.pointer);
      });
      crossed({ toDevice: value.data.byteLength, toHost: 0 });
    }
    this.#inputs.set(name, value);
  }

  output(name: string, target: Target): void {
    this.#requireIdle();
    const { env, places } = this.#parts;
    const { call } = env.library;
    const place = places.get(name);
    if (place === undefined) throw new AppError("PIPELINE_FAILED", `${this.#parts.what}: the graph has no output ${name}`);
    this.#try(() => {
      if (typeof target === "string") {
        call.BindOutputToDevice(this.#handle.pointer, name, target === "host" ? env.hostMemory : place);
      } else {
        using bound = hostValue(env, name, target);
        call.BindOutput(this.#handle.pointer, name, bound.pointer);
      }
    });
    this.#outputs.set(name, target);
  }

  async run(): Promise<BoundResults> {
    const missing = this.#parts.inputs.find(({ name }) => !this.#inputs.has(name));
    if (missing !== undefined)
      throw new AppError("PIPELINE_FAILED", `${this.#parts.what}: input '${missing.name}' is missing in the feeds`);
    this.#requireIdle();
    this.#running = [...this.#inputs.values(), ...this.#outputs.values()];
    try {
      await this.#parts.run(this.#handle);
      return this.#results();
    } catch (thrown) {
      throw this.#parts.failed(thrown);
    } finally {
      this.#running = null;
    }
  }

  [Symbol.dispose](): void {
    if (this.#handle.released) return;
    this.#handle[Symbol.dispose]();
    this.#inputs.clear();
    this.#outputs.clear();
    this.#parts.ended();
  }

  #results(): BoundResults {
    const written = this.#written();
    if (written !== null) return { host: written, device: {} };
    const host: Record<string, Tensor> = {};
    const device: Record<string, DeviceTensor> = {};
    let toHost = 0;
    const values = this.#takeValues();
    for (const [at, [name, target]] of [...this.#outputs].entries()) {
      const value = values[at]!;
      if (target === "device") {
        device[name] = new OrtDeviceTensor(value, describeValue(this.#parts.env, value.pointer), name);
        continue;
      }
      using read = value;
      host[name] = target === "host" ? readValue(this.#parts.env, read.pointer, name) : target;
      toHost += sizeOf(describeValue(this.#parts.env, read.pointer), name);
    }
    this.#parts.crossed({ toDevice: 0, toHost });
    return { host, device };
  }

  /** The outputs, where all of them are memory of the caller's: the library has refused what does not fit, so nobody needs to be asked. */
  #written(): Readonly<Record<string, Tensor>> | null {
    const host: Record<string, Tensor> = {};
    let toHost = 0;
    for (const [name, target] of this.#outputs) {
      if (typeof target === "string") return null;
      host[name] = target;
      toHost += target.data.byteLength;
    }
    this.#parts.crossed({ toDevice: 0, toHost });
    return host;
  }

  /** The library's results, each a handle of ours. */
  #takeValues(): readonly Handle<"Value">[] {
    const { env, what } = this.#parts;
    const { call, addresses } = env.library;
    const [array, count] = call.GetBoundOutputValues(this.#handle.pointer, env.allocator);
    if (count === 0) return [];
    const pointers = addresses(array, count);
    call.AllocatorFree(env.allocator, array);
    return pointers.map((pointer) => owned(env, "Value", `output of ${what}`, pointer as Pointer<"Value">));
  }

  #requireIdle(): void {
    if (this.#running !== null) throw new AppError("INTERNAL", `${this.#parts.what}: a binding was changed during its run: this is a bug`);
  }

  #try(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      throw this.#parts.failed(thrown);
    }
  }
}
