import type { Binding, BoundResults } from "../backend.ts";
import { floatTensor, toFloatData, type FloatData, type FloatType } from "./float-edge.ts";
import type { Edge } from "./graph-edge.ts";

/** An input that takes what an output of the step before gave: keys or values of one layer, `[rows, heads, tokens, headSize]`. */
export interface CachePair {
  readonly past: Edge<FloatType>;
  readonly present: Edge<FloatType>;
}

/** What a cache holds before the first step: `[rows, heads, 0, headSize]`, nothing. */
export function bindEmptyCache(binding: Binding, pairs: readonly CachePair[], dims: readonly [number, number, 0, number]): void {
  for (const { past } of pairs) binding.input(past.name, floatTensor(past.type, emptyData(past.type), dims));
}

function emptyData(type: FloatType): FloatData {
  return toFloatData(new Float32Array(0), type);
}

/** What the next run gives of these pairs stays on the device. */
export function keepCache(binding: Binding, pairs: readonly CachePair[]): void {
  for (const { present } of pairs) binding.output(present.name, "device");
}

/** What a run kept becomes what the next run takes: nothing is copied, and what was taken before is free again. */
export function passOnCache({ device }: BoundResults, pairs: readonly CachePair[], next: Binding): void {
  using made = new DisposableStack();
  for (const tensor of Object.values(device)) made.use(tensor);
  for (const { past, present } of pairs) {
    const tensor = device[present.name];
    if (tensor === undefined) throw new RangeError(`the run kept no ${present.name}: this is a bug`);
    next.input(past.name, tensor);
  }
}
