import type { Tensor, TensorInfo } from "../pipelines/backend.ts";
import { AppError } from "../protocol/error.ts";

/** @throws AppError PIPELINE_FAILED */
export function requireOutput(outputs: readonly TensorInfo[], name: string, what: string): TensorInfo {
  const info = outputs.find((output) => output.name === name);
  if (info !== undefined) return info;
  throw new AppError("PIPELINE_FAILED", `${what}: the graph has no output ${name}; it has ${outputs.map((output) => output.name).join(", ")}`);
}

/** Memory of the caller's that the output can go into, as far as the graph says. @throws AppError PIPELINE_FAILED with both shapes */
export function requireFits(info: TensorInfo, target: Tensor, what: string): void {
  const fits =
    info.type === target.type &&
    info.dims.length === target.dims.length &&
    info.dims.every((size, axis) => typeof size === "string" || size === target.dims[axis]);
  if (fits) return;
  throw new AppError("PIPELINE_FAILED", `${what}: output ${info.name} is ${shape(info)}, bound to ${shape(target)}`);
}

function shape({ type, dims }: { readonly type: string; readonly dims: readonly (number | string)[] }): string {
  return `${type}[${dims.join()}]`;
}
