/** Side of the square matrices that the probe multiplies. */
export const PROBE_SIZE = 64;

/**
 * A whole ONNX model of two nodes, y = Relu(a . b) on float32 [64, 64], written out by hand: a file in the package would have to be
 * found again from a bundle, a container or `dist/`. Field numbers are those of onnx.proto3.
 */
export function probeModel(): Uint8Array {
  const node = (op: string, inputs: readonly string[], output: string): Uint8Array =>
    message([...inputs.map((name) => text(1, name)), text(2, output), text(3, op.toLowerCase()), text(4, op)]);
  const dimension = bytes(1, message([varint(1, PROBE_SIZE)]));
  const tensorType = message([varint(1, 1), bytes(2, message([dimension, dimension]))]);
  const value = (name: string): Uint8Array => message([text(1, name), bytes(2, message([bytes(1, tensorType)]))]);
  const graph = message([
    bytes(1, node("MatMul", ["a", "b"], "ab")),
    bytes(1, node("Relu", ["ab"], "y")),
    text(2, "probe"),
    bytes(11, value("a")),
    bytes(11, value("b")),
    bytes(12, value("y")),
  ]);
  return message([varint(1, 8), text(2, "dryapi"), bytes(7, graph), bytes(8, message([varint(2, 17)]))]);
}

function message(fields: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(fields);
}

function varint(field: number, value: number): Uint8Array {
  return Buffer.from([field * 8, ...base128(value)]);
}

function bytes(field: number, value: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from([field * 8 + 2, ...base128(value.length)]), value]);
}

function text(field: number, value: string): Uint8Array {
  return bytes(field, Buffer.from(value));
}

function base128(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...base128(Math.floor(value / 128))];
}
