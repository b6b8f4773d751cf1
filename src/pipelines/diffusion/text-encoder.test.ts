import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import type { Session, Tensor, TensorInfo } from "../backend.ts";
import { fakeSession } from "../../../test/support/fake-session.ts";
import { SEQUENCE, TextEncoder } from "./text-encoder.ts";

/** An encoder whose output is each id, repeated to the width of 2. */
function repeating(inputs: readonly TensorInfo[], calls: Record<string, Tensor>[]): Session {
  return fakeSession({
    inputs,
    outputs: [{ name: "text_embeddings", type: "float32", dims: ["b", "s", 2] }],
    run(feeds) {
      calls.push({ ...feeds });
      const ids = Array.from(feeds["input_ids"]?.data as Iterable<number | bigint>, Number);
      const data = Float32Array.from(ids.flatMap((id) => [id, id]));
      return { text_embeddings: { type: "float32", data, dims: [1, ids.length, 2] } };
    },
  });
}

function open(inputs: readonly TensorInfo[], length = 3): { readonly encoder: TextEncoder; readonly calls: Record<string, Tensor>[] } {
  const calls: Record<string, Tensor>[] = [];
  const graph = { part: "text_encoder_2", session: repeating(inputs, calls), names: { inputs: {}, outputs: {} } };
  return { encoder: new TextEncoder(graph, SEQUENCE, length), calls };
}

test("a sole output needs no name; ids come in the graph's type", async () => {
  const { encoder, calls } = open([{ name: "input_ids", type: "int32", dims: ["b", "s"] }]);
  assert.deepEqual(await encoder.encode([5, 6, 1], "float32"), { data: Float32Array.of(5, 5, 6, 6, 1, 1), width: 2 });
  assert.deepEqual(calls[0]?.["input_ids"], { type: "int32", data: Int32Array.of(5, 6, 1), dims: [1, 3] });
});

test("the result is converted to what the transformer takes", async () => {
  const { encoder } = open([{ name: "input_ids", type: "int64", dims: ["b", "s"] }]);
  assert.deepEqual((await encoder.encode([1, 2, 0], "float16")).data, Uint16Array.of(0x3c00, 0x3c00, 0x4000, 0x4000, 0, 0));
});

test("an export with an attention mask gets ones, padding included", async () => {
  const { encoder, calls } = open([
    { name: "input_ids", type: "int64", dims: ["b", "s"] },
    { name: "attention_mask", type: "int64", dims: ["b", "s"] },
  ]);
  await encoder.encode([5, 1, 0], "float32");
  assert.deepEqual(calls[0]?.["attention_mask"]?.data, BigInt64Array.of(1n, 1n, 1n));
});

test("a fixed length that is not the manifest's is refused", () => {
  assert.throws(
    () => open([{ name: "input_ids", type: "int64", dims: [1, 512] }], 256),
    (thrown) =>
      thrown instanceof AppError && thrown.code === "MODEL_UNSUPPORTED" && /size 512 at axis -1, expected 256/.test(thrown.message),
  );
});
