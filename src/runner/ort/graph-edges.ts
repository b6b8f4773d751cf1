import type { TensorInfo } from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { takeText, type Environment } from "./environment.ts";
import type { Pointer } from "./signature.ts";
import { elementType, readTypeAndShape, typeName } from "./tensor-value.ts";

/** The edges that a session declares. @throws AppError MODEL_UNSUPPORTED for one of a type that cannot cross */
export function readEdges(
  env: Environment,
  session: Pointer<"Session">,
  path: string,
): {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
} {
  const { call } = env.library;
  const side = (
    count: number,
    nameOf: (session: Pointer<"Session">, at: number, allocator: Pointer<"Allocator">) => bigint,
    infoOf: (session: Pointer<"Session">, at: number) => Pointer<"TypeInfo">,
  ): readonly TensorInfo[] =>
    Array.from({ length: count }, (_, at) => {
      const name = takeText(env, nameOf(session, at, env.allocator));
      const info = infoOf(session, at);
      try {
        return readEdge(env, info, name, path);
      } finally {
        call.ReleaseTypeInfo(info);
      }
    });
  return {
    inputs: side(call.SessionGetInputCount(session), call.SessionGetInputName, call.SessionGetInputTypeInfo),
    outputs: side(call.SessionGetOutputCount(session), call.SessionGetOutputName, call.SessionGetOutputTypeInfo),
  };
}

function readEdge({ library }: Environment, info: Pointer<"TypeInfo">, name: string, path: string): TensorInfo {
  const { call } = library;
  const tensorInfo = call.CastTypeInfoToTensorInfo(info) as Pointer<"TensorTypeAndShapeInfo">;
  if (tensorInfo === 0n) throw new AppError("MODEL_UNSUPPORTED", `${path}: ${name} is no tensor, which is not supported`);
  const { code, dims } = readTypeAndShape(call, tensorInfo);
  const type = elementType(code)?.type;
  if (type === undefined) {
    throw new AppError(
      "MODEL_UNSUPPORTED",
      `${path}: tensor ${name} is ${typeName(code)}, which is not supported: add a Cast at that edge of the graph`,
    );
  }
  const symbols = new BigUint64Array(dims.length);
  if (dims.length > 0) call.GetSymbolicDimensions(tensorInfo, symbols, dims.length);
  return { name, type, dims: dims.map((size, axis) => (size >= 0 ? size : library.text(symbols[axis]!))) };
}
