import assert from "node:assert/strict";
import { copyFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Session, Tensor } from "../pipelines/backend.ts";
import { AppError, type ErrorCode } from "../protocol/error.ts";
import type { DeviceSpec } from "../protocol/ipc.ts";
import { detectDevices } from "../worker/devices/devices.ts";
import { openNodeBackend } from "./node-backend.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const FIXTURES = new URL("../../test/fixtures/ort/", import.meta.url);
const CPU: DeviceSpec = { kind: "cpu", index: 0, threads: 1 };
const fixture = (name: string): string => new URL(`${name}.onnx`, FIXTURES).pathname;

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "ort-backend-"));
});
after(() => rm(dir, { recursive: true, force: true }));

async function withSession<T>(name: string, use: (session: Session) => Promise<T>): Promise<T> {
  const session = await openNodeBackend({ device: CPU }).open(fixture(name));
  try {
    return await use(session);
  } finally {
    await session.release();
  }
}

const failsWith =
  (code: ErrorCode, ...texts: RegExp[]) =>
  (thrown: unknown): boolean => {
    assert.ok(thrown instanceof AppError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    for (const text of texts) assert.match(thrown.message, text);
    return true;
  };

test("without ORT_DISABLE_TELEMETRY=1 nothing is opened", () => {
  delete process.env["ORT_DISABLE_TELEMETRY"];
  try {
    assert.throws(() => openNodeBackend({ device: CPU }), failsWith("INTERNAL", /ORT_DISABLE_TELEMETRY/));
  } finally {
    process.env["ORT_DISABLE_TELEMETRY"] = "1";
  }
});

test("every type of the seam goes in and comes back, float16 as bits", async () => {
  const feeds: Record<string, Tensor> = {
    float32: { type: "float32", data: Float32Array.of(1.5, -2), dims: [2] },
    float16: { type: "float16", data: Uint16Array.of(0x3c00, 0xc000, 0x7bff), dims: [3] },
    int64: { type: "int64", data: BigInt64Array.of(-1n, 2n ** 62n), dims: [2] },
    int32: { type: "int32", data: Int32Array.of(7), dims: [1] },
    uint8: { type: "uint8", data: Uint8Array.of(255, 0), dims: [2] },
    bool: { type: "bool", data: Uint8Array.of(1, 0), dims: [2] },
  };
  await withSession("every-type", async (session) => {
    const results = await session.run(feeds);
    for (const [name, tensor] of Object.entries(feeds)) assert.deepEqual(results[`${name}_out`], tensor);
    assert.ok(session.runMs > 0);
  });
});

test("the declared edges are known before a run, symbolic sizes by name", async () => {
  await withSession("every-type", async ({ inputs, outputs }) => {
    assert.deepEqual(inputs[1], { name: "float16", type: "float16", dims: ["n"] });
    assert.equal(outputs.length, 6);
  });
});

test("a view into a larger buffer feeds only its part", async () => {
  await withSession("every-type", async (session) => {
    const feed = (tensor: Tensor): Record<string, Tensor> => ({
      float32: { type: "float32", data: new Float32Array(1), dims: [1] },
      float16: { type: "float16", data: new Uint16Array(1), dims: [1] },
      int64: { type: "int64", data: new BigInt64Array(1), dims: [1] },
      int32: { type: "int32", data: new Int32Array(1), dims: [1] },
      uint8: { type: "uint8", data: new Uint8Array(1), dims: [1] },
      bool: { type: "bool", data: new Uint8Array(1), dims: [1] },
      [tensor.type]: tensor,
    });
    const floats = await session.run(feed({ type: "float32", data: Float32Array.of(1, 2, 3, 4).subarray(1, 3), dims: [2] }));
    assert.deepEqual(floats["float32_out"]?.data, Float32Array.of(2, 3));
    const halves = await session.run(feed({ type: "float16", data: Uint16Array.of(1, 2, 3, 4).subarray(1, 3), dims: [2] }));
    assert.deepEqual(halves["float16_out"]?.data, Uint16Array.of(2, 3));
  });
});

test("weights beside the graph are found by path", async () => {
  await withSession("external", async (session) => {
    const { y } = await session.run({ x: { type: "float32", data: new Float32Array(4096).fill(1), dims: [4096] } });
    assert.equal(y?.data[4095], 4096);
  });
});

test("missing, cut and foreign files are MODEL_CORRUPT and named", async () => {
  const { open } = openNodeBackend({ device: CPU });
  await assert.rejects(open(join(dir, "absent.onnx")), failsWith("MODEL_CORRUPT", /absent\.onnx/, /File doesn't exist/));
  const graph = await readFile(fixture("every-type"));
  await writeFile(join(dir, "cut.onnx"), graph.subarray(0, graph.length / 2));
  await assert.rejects(open(join(dir, "cut.onnx")), failsWith("MODEL_CORRUPT", /cut\.onnx/, /Protobuf parsing failed/, /models verify/));
  await writeFile(join(dir, "empty.onnx"), "");
  await assert.rejects(open(join(dir, "empty.onnx")), failsWith("MODEL_CORRUPT", /empty\.onnx/));
});

test("missing and cut external weights are MODEL_CORRUPT and named", async () => {
  const { open } = openNodeBackend({ device: CPU });
  await copyFile(fixture("external"), join(dir, "external.onnx"));
  await assert.rejects(open(join(dir, "external.onnx")), failsWith("MODEL_CORRUPT", /external\.onnx_data/));
  await copyFile(new URL("external.onnx_data", FIXTURES), join(dir, "external.onnx_data"));
  await truncate(join(dir, "external.onnx_data"), 100);
  await assert.rejects(open(join(dir, "external.onnx")), failsWith("MODEL_CORRUPT", /100/));
});

test("an unknown operator and types that cannot cross are MODEL_UNSUPPORTED", async () => {
  const { open } = openNodeBackend({ device: CPU });
  await assert.rejects(open(fixture("unknown-op")), failsWith("MODEL_UNSUPPORTED", /Frobnicate/));
  await assert.rejects(open(fixture("double-edge")), failsWith("MODEL_UNSUPPORTED", /tensor x is float64/, /Cast/));
  await assert.rejects(open(fixture("bfloat16-edge")), failsWith("MODEL_UNSUPPORTED", /data type: 16/));
});

test("an allocation that cannot succeed is OUT_OF_MEMORY and the session stays usable", async () => {
  await withSession("expand", async (session) => {
    const one: Tensor = { type: "float32", data: Float32Array.of(3), dims: [1] };
    const shape = (count: bigint): Tensor => ({ type: "int64", data: BigInt64Array.of(count), dims: [1] });
    await assert.rejects(
      session.run({ one, shape: shape(10n ** 12n) }),
      failsWith("OUT_OF_MEMORY", /expand\.onnx failed on cpu:0/, /4000000000000/),
    );
    assert.deepEqual((await session.run({ one, shape: shape(2n) }))["y"]?.data, Float32Array.of(3, 3));
  });
});

test("a wrong feed is PIPELINE_FAILED with onnxruntime's reason", async () => {
  await withSession("expand", async (session) => {
    await assert.rejects(session.run({}), failsWith("PIPELINE_FAILED", /'one' is missing/));
  });
});

test("releasing twice is harmless, running afterwards is a named bug", async () => {
  const session = await openNodeBackend({ device: CPU }).open(fixture("expand"));
  await session.release();
  await session.release();
  await assert.rejects(session.run({}), failsWith("INTERNAL", /after its release/));
});

test("a profiled session says which provider ran its nodes", async () => {
  const session = await openNodeBackend({ device: CPU, profileDir: dir }).open(fixture("expand"));
  await session.run({
    one: { type: "float32", data: Float32Array.of(3), dims: [1] },
    shape: { type: "int64", data: BigInt64Array.of(4n), dims: [1] },
  });
  await session.release();
  const profile = (await readdir(dir)).find((name) => name.startsWith("ort") && name.endsWith(".json"));
  assert.match(await readFile(join(dir, profile ?? ""), "utf8"), /CPUExecutionProvider/);
});

test("asking for CUDA where its libraries are not there fails", async (context) => {
  if ((await detectDevices("auto")).some(({ kind }) => kind === "cuda")) return context.skip("this machine has CUDA");
  await assert.rejects(
    openNodeBackend({ device: { kind: "cuda", index: 0, threads: 0 } }).open(fixture("expand")),
    failsWith("DEVICE_UNAVAILABLE", /on cuda:0/),
  );
});
