import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { fakeSession } from "../../../test/support/fake-session.ts";
import type { Tensor, TensorInfo, TensorType } from "../backend.ts";
import type { PromptEmbedding } from "./prompt-encoder.ts";
import type { Graph } from "../graph/graph-edge.ts";
import { FluxTransformer } from "./transformer.ts";
import { gridIds, TransformerRun } from "./transformer-run.ts";

interface Layout {
  readonly batch?: number | string;
  readonly float?: TensorType;
  readonly ids?: TensorType;
  readonly idRank?: 2 | 3;
  readonly guidance?: boolean;
  readonly extra?: TensorInfo;
  readonly features?: number;
}

/** A transformer whose velocity is hidden states + timestep + guidance + the first value of each row's pooled vector. */
function fakeGraph(layout: Layout, calls: Record<string, Tensor>[] = []): Graph {
  const { batch = "b", float = "float32", ids = "int64", idRank = 2, features = 8 } = layout;
  const idDims = (name: string): (number | string)[] => (idRank === 2 ? [name, 3] : [batch, name, 3]);
  const inputs: TensorInfo[] = [
    { name: "hidden_states", type: float, dims: [batch, "n", features] },
    { name: "encoder_hidden_states", type: float, dims: [batch, "s", 4] },
    { name: "pooled_projections", type: float, dims: [batch, 2] },
    { name: "timestep", type: float, dims: ["step"] },
    { name: "img_ids", type: ids, dims: idDims("n") },
    { name: "txt_ids", type: ids, dims: idDims("s") },
    ...(layout.guidance === true ? [{ name: "guidance", type: float, dims: [batch] }] : []),
    ...(layout.extra === undefined ? [] : [layout.extra]),
  ];
  const numbers = (tensor: Tensor | undefined): number[] => {
    assert.ok(tensor !== undefined);
    if (tensor.type === "float16") return [...new Float16Array(tensor.data.slice().buffer)];
    return Array.from(tensor.data as Iterable<number | bigint>, Number);
  };
  const session = fakeSession({
    inputs,
    outputs: [{ name: "out_hidden_states", type: float, dims: [batch, "n", features] }],
    run(feeds) {
      calls.push({ ...feeds });
      const [rows = 0, tokens = 0] = feeds["hidden_states"]!.dims;
      const add = [feeds["timestep"], feeds["guidance"]].map((tensor) => (tensor === undefined ? null : numbers(tensor)));
      const pooled = numbers(feeds["pooled_projections"]);
      const values = numbers(feeds["hidden_states"]).map((value, i) => {
        const row = Math.floor(i / (tokens * features));
        return value + (add[0]?.[row] ?? 0) + (add[1]?.[row] ?? 0) + pooled[row * 2]!;
      });
      const dims = [rows, tokens, features];
      const result: Tensor =
        float === "float16"
          ? { type: float, data: new Uint16Array(new Float16Array(values).buffer), dims }
          : { type: "float32", data: Float32Array.from(values), dims };
      return { out_hidden_states: result };
    },
  });
  return { part: "transformer", session, names: { inputs: {}, outputs: {} } };
}

function embedding(value: number, float: TensorType = "float32"): PromptEmbedding {
  const make = (values: readonly number[]): Float32Array | Uint16Array =>
    float === "float16" ? new Uint16Array(new Float16Array(values).buffer) : Float32Array.from(values);
  return { sequence: make([1, 2, 3, 4, 5, 6, 7, 8]), sequenceShape: [2, 4], pooled: make([value, 0]) };
}

const SHAPE = { channels: 2, height: 2, width: 4 };
const ROW = 16;
const latentsOf = (rows: number): Float32Array => Float32Array.from({ length: rows * ROW }, (_, i) => i);
const startOf = (layout: Layout, calls: Record<string, Tensor>[] = []): TransformerRun =>
  new TransformerRun(
    new FluxTransformer(fakeGraph(layout, calls), 8),
    SHAPE,
    [10, 20, 30].map((value) => embedding(value, layout.float)),
    2,
  );

for (const [name, layout] of [
  ["float32, int64 ids of rank 2", {}],
  ["float16 edges", { float: "float16" }],
  ["int32 ids of rank 3", { ids: "int32", idRank: 3 }],
  ["float32 ids", { ids: "float32" }],
  ["float16 ids of rank 3 and float16 edges", { float: "float16", ids: "float16", idRank: 3 }],
  ["a fixed batch of 1", { batch: 1 }],
  ["a fixed batch of 1, float16, ids of rank 3", { batch: 1, float: "float16", idRank: 3 }],
  ["guidance", { guidance: true }],
] as const satisfies readonly (readonly [string, Layout])[]) {
  test(`${name}: each row gets its own values, also after another row left`, async () => {
    const run = startOf(layout);
    const guidance = "guidance" in layout ? 2 : 0;
    const latents = latentsOf(3);
    assert.deepEqual(
      [...(await run.step(latents, 0.5))],
      [...latents].map((value, i) => value + 0.5 + guidance + [10, 20, 30][Math.floor(i / ROW)]!),
    );
    run.dropRow(1);
    const fewer = latentsOf(2);
    assert.deepEqual(
      [...(await run.step(fewer, 0.25))],
      [...fewer].map((value, i) => value + 0.25 + guidance + [10, 30][Math.floor(i / ROW)]!),
    );
  });
}

test("ids are row and column of each token, in the type and rank of the graph", async () => {
  assert.deepEqual([...gridIds(2, 2)], [0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1]);
  const calls: Record<string, Tensor>[] = [];
  const run = startOf({ ids: "int64", idRank: 3 }, calls);
  await run.step(latentsOf(3), 1);
  run.dropRow(0);
  await run.step(latentsOf(2), 1);
  assert.deepEqual(
    calls.map(({ img_ids: ids, txt_ids: text }) => [ids?.dims, text?.dims]),
    [
      [
        [3, 2, 3],
        [3, 2, 3],
      ],
      [
        [2, 2, 3],
        [2, 2, 3],
      ],
    ],
  );
  assert.deepEqual(calls[1]?.["img_ids"]?.data, BigInt64Array.of(0n, 0n, 0n, 0n, 0n, 1n, 0n, 0n, 0n, 0n, 0n, 1n));
});

test("the cached embedding of a lone row is not written to", async () => {
  const kept = embedding(10);
  const before = structuredClone(kept);
  const run = new TransformerRun(new FluxTransformer(fakeGraph({}), 8), SHAPE, [kept], 0);
  await run.step(latentsOf(1), 1);
  run.dropRow(0);
  assert.deepEqual(kept, before);
});

function refused(layout: Layout, ...texts: RegExp[]): void {
  assert.throws(
    () => new FluxTransformer(fakeGraph(layout), 8),
    (thrown) => {
      assert.ok(thrown instanceof AppError && thrown.code === "MODEL_UNSUPPORTED", String(thrown));
      for (const text of [/part transformer/, ...texts]) assert.match(thrown.message, text);
      return true;
    },
  );
}

test("graphs that do not fit are refused with tensor, found and expected", () => {
  refused({ float: "int32" }, /hidden_states int32\[b, n, 8\]/, /float32 or float16/);
  refused({ ids: "bool" }, /img_ids bool/, /int64 or int32 or float32 or float16/);
  refused({ features: 12 }, /size 12 at axis -1, expected 8/);
  refused({ batch: 2 }, /fixed batch of 2/);
  refused({ extra: { name: "controlnet", type: "float32", dims: [1] } }, /controlnet float32\[1\] is of no known role/);
});
