import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { basename, dirname } from "node:path";

/**
 * Writes ONNX graphs with weights beside them, for proofs that need large ones: fields and numbers are those of onnx.proto, of which only
 * what is used here is known.
 */

export type ElementType = "float32" | "float16" | "int64";
const ELEMENT: Readonly<Record<ElementType, number>> = { float32: 1, int64: 7, float16: 10 };

export interface Value {
  readonly name: string;
  readonly type: ElementType;
  readonly dims: readonly (number | string)[];
}

export interface Node {
  readonly op: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Whole numbers and lists of them. */
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

/** A tensor in the file beside the graph, float32: `data` is written for it. */
export interface Weight {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array;
}

export interface GraphParts {
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  readonly nodes: readonly Node[];
  readonly weights: readonly Weight[];
  /** Whole numbers inside the graph, such as axes and shapes. */
  readonly constants?: Readonly<Record<string, readonly number[]>>;
}

/** Writes `path` and `path`_data. */
export async function writeGraph(path: string, graph: GraphParts): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const location = `${basename(path)}_data`;
  const out = createWriteStream(`${path}_data`);
  let offset = 0;
  const external: Uint8Array[] = [];
  for (const { name, dims, data } of graph.weights) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    external.push(externalTensor(name, dims, { location, offset, length: bytes.length }));
    offset += bytes.length;
    if (!out.write(bytes)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
  await writeFile(path, model(graph, external));
}

function model({ inputs, outputs, nodes, constants = {} }: GraphParts, external: readonly Uint8Array[]): Uint8Array {
  const tensors = [...external, ...Object.entries(constants).map(([name, values]) => int64Tensor(name, values))];
  const body = message([
    ...nodes.map((node) => bytesField(1, nodeProto(node))),
    textField(2, "graph"),
    ...tensors.map((tensor) => bytesField(5, tensor)),
    ...inputs.map((value) => bytesField(11, valueInfo(value))),
    ...outputs.map((value) => bytesField(12, valueInfo(value))),
  ]);
  return message([intField(1, 8), bytesField(7, body), bytesField(8, message([textField(1, ""), intField(2, 17)]))]);
}

function nodeProto({ op, inputs, outputs, attributes = {} }: Node): Uint8Array {
  const attribute = ([name, value]: readonly [string, number | readonly number[]]): Uint8Array =>
    typeof value === "number"
      ? message([textField(1, name), intField(3, value), intField(20, 2)])
      : message([textField(1, name), ...value.map((each) => intField(8, each)), intField(20, 7)]);
  return message([
    ...inputs.map((name) => textField(1, name)),
    ...outputs.map((name) => textField(2, name)),
    textField(4, op),
    ...Object.entries(attributes).map((each) => bytesField(5, attribute(each))),
  ]);
}

function externalTensor(name: string, dims: readonly number[], place: Readonly<Record<string, string | number>>): Uint8Array {
  const entries = Object.entries(place).map(([key, value]) => bytesField(13, message([textField(1, key), textField(2, String(value))])));
  return message([...dims.map((dim) => intField(1, dim)), intField(2, ELEMENT.float32), textField(8, name), ...entries, intField(14, 1)]);
}

function int64Tensor(name: string, values: readonly number[]): Uint8Array {
  const raw = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
  return message([intField(1, values.length), intField(2, ELEMENT.int64), textField(8, name), bytesField(9, raw)]);
}

function valueInfo({ name, type, dims }: Value): Uint8Array {
  const shape = dims.map((dim) => bytesField(1, typeof dim === "number" ? intField(1, dim) : textField(2, dim)));
  const tensor = message([intField(1, ELEMENT[type]), bytesField(2, message(shape))]);
  return message([textField(1, name), bytesField(2, bytesField(1, tensor))]);
}

function message(fields: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(fields);
}

function intField(field: number, value: number): Uint8Array {
  return Uint8Array.from([...varint(field * 8), ...varint(value)]);
}

function textField(field: number, text: string): Uint8Array {
  return bytesField(field, Buffer.from(text));
}

function bytesField(field: number, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.from([...varint(field * 8 + 2), ...varint(bytes.length)]), bytes]);
}

/** Also of numbers beyond 2^32: offsets of weights. */
function varint(value: number): readonly number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) + 128);
  }
}
