import type { Binding, BoundResults, DeviceTensor, Feed, Session, Tensor } from "../pipelines/backend.ts";
import { HostTensor, toHost } from "./host-tensor.ts";

type Target = "host" | "device" | Tensor;

/** A binding over a session that only knows whole runs: all copies are made, the results are the same. */
export class HostBinding implements Binding {
  readonly #run: Session["run"];
  readonly #inputs = new Map<string, Tensor>();
  readonly #outputs = new Map<string, Target>();

  constructor(run: Session["run"]) {
    this.#run = run;
  }

  input(name: string, value: Feed): void {
    this.#inputs.set(name, toHost(value, name));
  }

  output(name: string, target: Target): void {
    this.#outputs.set(name, target);
  }

  async run(): Promise<BoundResults> {
    const results = await this.#run(Object.fromEntries(this.#inputs));
    const host: Record<string, Tensor> = {};
    const device: Record<string, DeviceTensor> = {};
    for (const [name, target] of this.#outputs) {
      const result = results[name];
      if (result === undefined) throw new RangeError(`the graph has no output ${name}`);
      if (target === "device") device[name] = new HostTensor(result);
      else host[name] = target === "host" ? result : written(result, target, name);
    }
    return { host, device };
  }

  [Symbol.dispose](): void {
    this.#inputs.clear();
    this.#outputs.clear();
  }
}

function written(result: Tensor, target: Tensor, name: string): Tensor {
  if (result.type !== target.type || result.dims.join() !== target.dims.join()) {
    throw new TypeError(`output ${name} is ${result.type}[${result.dims.join()}], bound to ${target.type}[${target.dims.join()}]`);
  }
  target.data.set(result.data as never);
  return target;
}
