import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { graphBytes } from "./graph-bytes.ts";

let dir: string;
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "graph-bytes-"));
  const sizes = { "model.onnx": 1, "model.onnx_data": 10, "model.onnx.data": 100, "other.bin": 1_000, "model_fp16.onnx": 10_000 };
  for (const [name, size] of Object.entries(sizes)) await writeFile(join(dir, name), Buffer.alloc(size));
});
after(() => rm(dir, { recursive: true }));

test("weights are the files that are named, or those that are named after the graph", async () => {
  assert.equal(await graphBytes(join(dir, "model.onnx"), []), 111);
  assert.equal(await graphBytes(join(dir, "model.onnx"), [join(dir, "other.bin")]), 1_001);
  assert.equal(await graphBytes(join(dir, "model_fp16.onnx"), []), 10_000);
});

test("with a file that is not there nothing is known", async () => {
  assert.equal(await graphBytes(join(dir, "gone.onnx"), []), null);
  assert.equal(await graphBytes(join(dir, "model.onnx"), [join(dir, "gone.bin")]), null);
  assert.equal(await graphBytes(join(dir, "nowhere/model.onnx"), []), null);
});
