import {
  isOnDevice,
  type Binding,
  type BoundResults,
  type Feed,
  type Tensor,
  type TensorInfo,
  type Traffic,
} from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { owned, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import type { Pointer } from "./signature.ts";
import { requireAll, requireEdge, requireFits, requireWhole } from "../tensor-checks.ts";
import { describeValue, hostValue, OrtDeviceTensor, readValue, sizeOf } from "./tensor-value.ts";

export interface BindingParts {
  readonly env: Environment;
  /** The graph's path, for messages. */
  readonly what: string;
  readonly pointer: Pointer<"IoBinding">;
  /** @throws AppError INTERNAL once the session is released */
  readonly placeOf: (output: string) => Pointer<"MemoryInfo">;
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
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
    const { env, crossed, inputs, what } = this.#parts;
    const { call } = env.library;
    requireFits(requireEdge("input", inputs, name, what), value, what);
    if (isOnDevice(value)) {
      if (!(value instanceof OrtDeviceTensor))
        throw new AppError("INTERNAL", `input ${name}: a device tensor of another backend: this is a bug`);
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
    const { env, outputs, what } = this.#parts;
    const { call } = env.library;
    const info = requireEdge("output", outputs, name, what);
    if (typeof target !== "string") requireFits(info, target, what);
    this.#try(() => {
      if (typeof target === "string") this.#renew(name, target);
      else {
        using bound = hostValue(env, name, target);
        call.BindOutput(this.#handle.pointer, name, bound.pointer);
      }
    });
    this.#outputs.set(name, target);
  }

  async run(): Promise<BoundResults> {
    this.#requireIdle();
    requireAll(this.#parts.inputs, (name) => this.#inputs.has(name), this.#parts.what);
    // What was whole when it was bound may have been transferred to another thread since.
    for (const [name, feed] of this.#inputs) if (!isOnDevice(feed)) requireWhole(name, feed);
    for (const [name, target] of this.#outputs) if (typeof target !== "string") requireWhole(name, target);
    // The library would write a second run's results over those of the first, which are handed on, and refuse other shapes.
    this.#try(() => {
      for (const [name, target] of this.#outputs) if (typeof target === "string") this.#renew(name, target);
    });
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

  /** @throws AppError INTERNAL when the binding was disposed of during its run: there are no outputs any more */
  #results(): BoundResults {
    void this.#handle.pointer;
    const written = this.#written();
    if (written !== null) return { host: written, device: {} };
    const { env, crossed } = this.#parts;
    const host: Record<string, Tensor> = {};
    const device: Record<string, OrtDeviceTensor> = {};
    let toHost = 0;
    const values = this.#takeValues();
    // Until all could be read none is handed on.
    using parts = new DisposableStack();
    for (const value of values) parts.use(value);
    for (const [at, [name, target]] of [...this.#outputs].entries()) {
      const value = values[at]!;
      const facts = describeValue(env, value.pointer);
      if (target === "device") device[name] = new OrtDeviceTensor(value, facts, name);
      else {
        host[name] = target === "host" ? readValue(env, value.pointer, name) : target;
        toHost += sizeOf(facts, name);
      }
    }
    parts.move();
    const handedOn = new Set(Object.values(device).map(({ value }) => value));
    for (const value of values) if (!handedOn.has(value)) value[Symbol.dispose]();
    crossed({ toDevice: 0, toHost });
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

  /** The library's results in the order of the outputs, each a handle of ours. */
  #takeValues(): readonly Handle<"Value">[] {
    const { env, what } = this.#parts;
    const { call, addresses } = env.library;
    const [array, count] = call.GetBoundOutputValues(this.#handle.pointer, env.allocator);
    if (count === 0) return [];
    const values = addresses(array, count).map((pointer) => owned(env, "Value", `output of ${what}`, pointer as Pointer<"Value">));
    call.AllocatorFree(env.allocator, array);
    return values;
  }

  /** From the next run on the output is in memory that nobody has seen. */
  #renew(name: string, target: "host" | "device"): void {
    const { env, placeOf } = this.#parts;
    env.library.call.BindOutputToDevice(this.#handle.pointer, name, target === "host" ? env.hostMemory : placeOf(name));
  }

  /** @throws AppError INTERNAL after the release, and during a run */
  #requireIdle(): void {
    void this.#handle.pointer;
    if (this.#running !== null) throw new AppError("INTERNAL", `${this.#parts.what}: a binding was used during its run: this is a bug`);
  }

  #try(work: () => void): void {
    try {
      work();
    } catch (thrown) {
      throw this.#parts.failed(thrown);
    }
  }
}
