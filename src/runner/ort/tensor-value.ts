import type { DeviceTensor, Tensor, TensorType } from "../../pipelines/backend.ts";
import { AppError } from "../../protocol/error.ts";
import { owned, type Environment } from "./environment.ts";
import type { Handle } from "./handle.ts";
import type { Pointer } from "./signature.ts";

type Data = Tensor["data"];
interface ElementType {
  readonly type: TensorType;
  readonly bytes: number;
  readonly array: new (buffer: ArrayBuffer) => Data;
}

/** ONNXTensorElementDataType of the header; those that are missing cannot cross. */
const ELEMENT_TYPES: ReadonlyMap<number, ElementType> = new Map<number, ElementType>([
  [1, { type: "float32", bytes: 4, array: Float32Array }],
  [2, { type: "uint8", bytes: 1, array: Uint8Array }],
  [3, { type: "int8", bytes: 1, array: Int8Array }],
  [6, { type: "int32", bytes: 4, array: Int32Array }],
  [7, { type: "int64", bytes: 8, array: BigInt64Array }],
  [9, { type: "bool", bytes: 1, array: Uint8Array }],
  [10, { type: "float16", bytes: 2, array: Uint16Array }],
]);
const CODES: ReadonlyMap<TensorType, number> = new Map([...ELEMENT_TYPES].map(([code, { type }]) => [type, code]));

/** Types that cannot cross, by the header's number: for messages. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map([
  [4, "uint16"],
  [5, "int16"],
  [8, "string"],
  [11, "float64"],
  [12, "uint32"],
  [13, "uint64"],
  [16, "bfloat16"],
]);

/** Null for one that cannot cross. */
export function elementType(code: number): ElementType | null {
  return ELEMENT_TYPES.get(code) ?? null;
}

export function typeName(code: number): string {
  return elementType(code)?.type ?? OTHER_TYPES.get(code) ?? `element type ${code} of onnxruntime`;
}

/** Addresses of nothing are refused by the library, also for tensors without elements. */
const NOTHING = new Uint8Array(1);

/** Lets the library read and write the tensor's memory where it is: the tensor must stay referenced for as long as the value is in use. */
export function hostValue(env: Environment, name: string, tensor: Tensor): Handle<"Value"> {
  const { library, hostMemory } = env;
  const { data, dims, type } = tensor;
  const shape = BigInt64Array.from(dims, BigInt);
  const address = library.addressOf(data.length === 0 ? NOTHING : data);
  const code = CODES.get(type);
  if (code === undefined) throw new TypeError(`tensor ${name} is ${type}, which cannot be given: this is a bug`);
  const { CreateTensorWithDataAsOrtValue: create } = library.call;
  return owned(env, "Value", `tensor ${name}`, create(hostMemory, address, data.byteLength, shape, dims.length, code));
}

export interface ValueFacts {
  readonly code: number;
  readonly dims: readonly number[];
}

export function describeValue({ library: { call } }: Environment, value: Pointer<"Value">): ValueFacts {
  const info = call.GetTensorTypeAndShape(value);
  try {
    return readTypeAndShape(call, info);
  } finally {
    call.ReleaseTensorTypeAndShapeInfo(info);
  }
}

export function readTypeAndShape(call: Environment["library"]["call"], info: Pointer<"TensorTypeAndShapeInfo">): ValueFacts {
  const dims = new BigInt64Array(call.GetDimensionsCount(info));
  if (dims.length > 0) call.GetDimensions(info, dims, dims.length);
  return { code: call.GetTensorElementType(info), dims: Array.from(dims, Number) };
}

/** A copy of a value that is in this process' memory. @throws AppError MODEL_UNSUPPORTED for a type that cannot cross */
export function readValue(env: Environment, value: Pointer<"Value">, name: string): Tensor {
  const { code, dims } = describeValue(env, value);
  const element = requireElement(code, name);
  const bytes = dims.reduce((product, size) => product * size, element.bytes);
  const data = bytes === 0 ? new ArrayBuffer(0) : env.library.view(env.library.call.GetTensorMutableData(value), bytes).slice(0);
  return { type: element.type, data: new element.array(data), dims } as Tensor;
}

export function requireElement(code: number, name: string): ElementType {
  const element = elementType(code);
  if (element !== null) return element;
  throw new AppError("MODEL_UNSUPPORTED", `output ${name} came back as ${typeName(code)}, which is not supported`);
}

/** Bytes of a tensor of this type and shape. */
export function sizeOf({ code, dims }: ValueFacts, name: string): number {
  return dims.reduce((product, size) => product * size, requireElement(code, name).bytes);
}

/** What a session left on its device. */
export class OrtDeviceTensor implements DeviceTensor {
  readonly onDevice = true;
  readonly type: TensorType;
  readonly dims: readonly number[];
  readonly value: Handle<"Value">;

  constructor(value: Handle<"Value">, { code, dims }: ValueFacts, name: string) {
    this.value = value;
    this.type = requireElement(code, name).type;
    this.dims = dims;
  }

  [Symbol.dispose](): void {
    this.value[Symbol.dispose]();
  }
}
