import type { Binding, BoundResults, DeviceTensor, Feed, Session, Tensor } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";
import { HostTensor, toHost } from "./host-tensor.ts";
import { requireAll, requireEdge, requireFits } from "./tensor-checks.ts";

type Target = "host" | "device" | Tensor;

/** A binding over a session that only knows whole runs: all copies are made, the results and the refusals are the same. */
export class HostBinding implements Binding {
  readonly #session: Pick<Session, "run" | "inputs" | "outputs">;
  readonly #what: string;
  readonly #inputs = new Map<string, Tensor>();
  readonly #outputs = new Map<string, Target>();
  #state: "idle" | "running" | "disposed" = "idle";

  /** @param what the graph's path, for messages */
  constructor(session: Pick<Session, "run" | "inputs" | "outputs">, what: string) {
    this.#session = session;
    this.#what = what;
  }

  input(name: string, value: Feed): void {
    this.#requireIdle();
    requireFits(requireEdge("input", this.#session.inputs, name, this.#what), value, this.#what);
    this.#inputs.set(name, toHost(value, name));
  }

  output(name: string, target: Target): void {
    this.#requireIdle();
    const info = requireEdge("output", this.#session.outputs, name, this.#what);
    if (typeof target !== "string") requireFits(info, target, this.#what);
    this.#outputs.set(name, target);
  }

  async run(): Promise<BoundResults> {
    this.#requireIdle();
    requireAll(this.#session.inputs, (name) => this.#inputs.has(name), this.#what);
    this.#state = "running";
    try {
      const results = await this.#session.run(Object.fromEntries(this.#inputs));
      this.#requireNotDisposed();
      const host: Record<string, Tensor> = {};
      const device: Record<string, DeviceTensor> = {};
      for (const [name, target] of this.#outputs) {
        const result = results[name]!;
        if (target === "device") device[name] = new HostTensor(result);
        else host[name] = target === "host" ? result : this.#written(result, target, name);
      }
      return { host, device };
    } finally {
      if (this.#state === "running") this.#state = "idle";
    }
  }

  [Symbol.dispose](): void {
    this.#state = "disposed";
    this.#inputs.clear();
    this.#outputs.clear();
  }

  #written(result: Tensor, target: Tensor, name: string): Tensor {
    requireFits({ ...result, name }, target, this.#what);
    target.data.set(result.data as never);
    return target;
  }

  #requireNotDisposed(): void {
    if (this.#state === "disposed") throw new AppError("INTERNAL", `binding of ${this.#what} was used after its release: this is a bug`);
  }

  #requireIdle(): void {
    this.#requireNotDisposed();
    if (this.#state === "running") throw new AppError("INTERNAL", `${this.#what}: a binding was used during its run: this is a bug`);
  }
}
