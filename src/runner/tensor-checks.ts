import { isOnDevice, type Feed, type Tensor, type TensorInfo } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";

/** What both ways to onnxruntime refuse before it sees it, with the tensor's name: its own words often lack that. */

/** @param what the graph's path @throws AppError PIPELINE_FAILED unless the graph has that edge */
export function requireEdge(side: "input" | "output", edges: readonly TensorInfo[], name: string, what: string): TensorInfo {
  const info = edges.find((edge) => edge.name === name);
  if (info !== undefined) return info;
  const names = edges.map((edge) => edge.name).join(", ");
  throw new AppError("PIPELINE_FAILED", `${what}: the graph has no ${side} ${name}; its ${side}s are ${names}`);
}

/** @throws AppError PIPELINE_FAILED for an input that the graph needs and nobody gave */
export function requireAll(inputs: readonly TensorInfo[], given: (name: string) => boolean, what: string): void {
  const missing = inputs.find(({ name }) => !given(name));
  if (missing !== undefined) throw new AppError("PIPELINE_FAILED", `${what}: input '${missing.name}' is missing in the feeds`);
}

/** A value of the type and shape that the edge declares. @throws AppError PIPELINE_FAILED with both */
export function requireFits(info: TensorInfo, value: Feed, what: string): void {
  if (!isOnDevice(value)) requireWhole(info.name, value);
  const { type, dims, name } = info;
  const fits =
    type === value.type &&
    dims.length === value.dims.length &&
    dims.every((size, axis) => typeof size === "string" || size === value.dims[axis]);
  if (!fits) throw new AppError("PIPELINE_FAILED", `${what}: ${name} is ${shape(info)}, and was given ${shape(value)}`);
}

/**
 * Data that fill the dims exactly: the library would read beyond those that are too short, as a buffer is once it was transferred.
 * @throws AppError PIPELINE_FAILED
 */
export function requireWhole(name: string, tensor: Tensor): void {
  const { data, dims } = tensor;
  const elements = dims.reduce((product, size) => product * size, 1);
  if (dims.some((size) => !Number.isSafeInteger(size) || size < 0) || data.length !== elements) {
    throw new AppError("PIPELINE_FAILED", `tensor ${name} is ${shape(tensor)}, and holds ${data.length} values`);
  }
}

function shape({ type, dims }: { readonly type: string; readonly dims: readonly (number | string)[] }): string {
  return `${type}[${dims.join()}]`;
}
