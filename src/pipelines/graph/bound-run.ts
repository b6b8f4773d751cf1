import type { Binding, Tensor } from "../backend.ts";
import { emptyFloats, floatTensor, type FloatType } from "./float-edge.ts";
import { outputOf, type Edge, type Graph } from "./graph-edge.ts";

/** Input name -> value. */
export type Feeds = Readonly<Record<string, Tensor>>;

export interface BoundRunOptions {
  readonly graph: Graph;
  /** Inputs that are the same in all runs: they are given once and stay on the device. Their memory must not change. */
  readonly fixed: Feeds;
  /** The one output that is wanted; others of the graph are not read. */
  readonly output: Edge;
  /** Memory that each run writes the output into; null: fresh memory each time, for an output whose size is only known afterwards. */
  readonly into: Tensor | null;
}

/** Runs of a graph that have inputs in common and want one output, one run at a time. */
export class BoundRun implements Disposable {
  readonly #options: BoundRunOptions;
  readonly #binding: Binding;

  constructor(options: BoundRunOptions) {
    const { graph, fixed, output, into } = options;
    this.#options = options;
    this.#binding = graph.session.bind();
    try {
      this.#give(fixed);
      this.#binding.output(output.name, into ?? "host");
    } catch (thrown) {
      this.#binding[Symbol.dispose]();
      throw thrown;
    }
  }

  /** The output; where there is `into`, valid until the next run. @param changing inputs of this run @throws AppError as Session.run */
  async run(changing: Feeds = {}): Promise<Tensor> {
    const { graph, output } = this.#options;
    this.#give(changing);
    return outputOf((await this.#binding.run()).host, output, graph.part);
  }

  [Symbol.dispose](): void {
    this.#binding[Symbol.dispose]();
  }

  #give(feeds: Feeds): void {
    for (const [name, value] of Object.entries(feeds)) this.#binding.input(name, value);
  }
}

/** One run for one output. @param into as BoundRunOptions */
export async function runFor(graph: Graph, feeds: Feeds, output: Edge, into: Tensor | null): Promise<Tensor> {
  using run = new BoundRun({ graph, fixed: feeds, output, into });
  return await run.run();
}

/** Memory for an output of these dims. */
export function emptyTensor(type: FloatType, dims: readonly number[]): Tensor {
  const size = dims.reduce((product, count) => product * count, 1);
  return floatTensor(type, emptyFloats(type, size), dims);
}
