/** Nodes of an ONNX model's graph, those of the graphs inside of nodes included: read from the file's bytes, with nobody's library. */
export function countNodes(model: Uint8Array): number {
  return fields(model, MODEL_GRAPH).reduce((sum, graph) => sum + nodesOf(graph), 0);
}

// Field numbers of onnx.proto.
const MODEL_GRAPH = 7;
const GRAPH_NODE = 1;
const NODE_ATTRIBUTE = 5;
const ATTRIBUTE_GRAPHS = [6, 11] as const;

function nodesOf(graph: Uint8Array): number {
  return fields(graph, GRAPH_NODE).reduce((sum, node) => {
    const inner = fields(node, NODE_ATTRIBUTE).flatMap((attribute) => ATTRIBUTE_GRAPHS.flatMap((field) => fields(attribute, field)));
    return sum + 1 + inner.reduce((inside, each) => inside + nodesOf(each), 0);
  }, 0);
}

/** The contents of a message's length-delimited fields of one number. */
function fields(message: Uint8Array, wanted: number): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw new RangeError(`a message of ${message.length} bytes ends inside of a number`);
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < message.length) {
    const key = varint();
    const wire = key % 8;
    if (wire === 0) varint();
    else if (wire === 1) at += 8;
    else if (wire === 5) at += 4;
    else if (wire === 2) {
      const length = varint();
      if (Math.floor(key / 8) === wanted) found.push(message.subarray(at, at + length));
      at += length;
    } else throw new RangeError(`wire type ${wire} is not of protobuf 3`);
  }
  return found;
}
