import assert from "node:assert/strict";
import { copyFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import type { Tensor } from "../../src/pipelines/backend.ts";
import { EXECUTION_PROVIDERS } from "../../src/protocol/ipc.ts";
import { detectDevices } from "../../src/worker/devices/devices.ts";
import { count, everyType, failsWith, fixture, FIXTURES, floats, RUNTIMES, withSession } from "../support/runtimes.ts";
import { TEST_DEVICE, TEST_DEVICE_ID } from "../support/test-device.ts";

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "runtime-"));
});
after(() => rm(dir, { recursive: true, force: true }));

for (const [runtime, open] of Object.entries(RUNTIMES)) {
  suite(`runtime ${runtime}: graphs and runs`, () => {
    test("without ORT_DISABLE_TELEMETRY=1 nothing is opened", () => {
      delete process.env["ORT_DISABLE_TELEMETRY"];
      try {
        assert.throws(() => open(), failsWith("INTERNAL", /ORT_DISABLE_TELEMETRY/));
      } finally {
        process.env["ORT_DISABLE_TELEMETRY"] = "1";
      }
    });

    test("every type of the seam goes in and comes back, float16 as bits", () =>
      withSession(open(), "every-type", async (session) => {
        const feeds = everyType();
        const results = await session.run(feeds);
        for (const [name, tensor] of Object.entries(feeds)) assert.deepEqual(results[`${name}_out`], tensor);
        assert.ok(session.runMs > 0);
      }));

    test("a view into a larger buffer feeds only its part", () =>
      withSession(open(), "every-type", async (session) => {
        for (const [name, whole] of Object.entries(everyType())) {
          const make = whole.data.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => Tensor["data"];
          const buffer = new ArrayBuffer(whole.data.byteLength + 32);
          const view = new make(buffer, 16, whole.data.length);
          view.set(whole.data as never);
          const results = await session.run({ ...everyType(), [name]: { ...whole, data: view } as Tensor });
          assert.deepEqual(results[`${name}_out`], whole);
        }
      }));

    test("tensors without elements go in and come out", () =>
      withSession(open(), "every-type", async (session) => {
        const empty = Object.entries(everyType()).map(([name, { type, data }]) => [name, { type, data: data.slice(0, 0), dims: [0] }]);
        const feeds = Object.fromEntries(empty) as Record<string, Tensor>;
        const results = await session.run(feeds);
        for (const [name, tensor] of Object.entries(feeds)) assert.deepEqual(results[`${name}_out`], tensor);
      }));

    test("weights of 4 and of 8 bits multiply as the float weights that they stand for", () =>
      withSession(open(), "few-bits", async (session) => {
        const rows = Array.from({ length: 3 * 72 }, (_, i) => Math.sin(i));
        const results = await session.run({ x: floats(rows, [3, 72]) });
        const valuesOf = (name: string): readonly number[] => Array.from(results[name]?.data ?? [], Number);
        for (const bits of [4, 8]) {
          const [found, expected] = [valuesOf(`y${bits}`), valuesOf(`z${bits}`)];
          assert.equal(expected.length, 3 * 8);
          assert.ok(expected.some((value) => Math.abs(value) > 1));
          for (const [i, value] of expected.entries())
            assert.ok(Math.abs((found[i] ?? NaN) - value) < 1e-4, `${bits} bits: ${found[i]}, ${value}`);
        }
      }));

    test("a scalar has no dims", () =>
      withSession(open(), "scalar", async (session) => {
        assert.deepEqual(session.inputs, [{ name: "x", type: "float32", dims: [] }]);
        assert.deepEqual((await session.run({ x: floats([3], []) }))["y"], floats([3], []));
      }));

    test("the declared edges are known before a run: sizes by name, without a name, and fixed", async () => {
      const dims = ["batch", "", 3];
      await withSession(open(), "sizes", async ({ inputs, outputs }) => {
        assert.deepEqual(inputs, [{ name: "x", type: "float32", dims }]);
        assert.deepEqual(outputs, [{ name: "y", type: "float32", dims }]);
      });
    });

    test("edges of types that do not cross are MODEL_UNSUPPORTED, with the tensor and its type", async () => {
      const backend = open();
      await assert.rejects(backend.open(fixture("double-edge")), failsWith("MODEL_UNSUPPORTED", /double-edge.* x .*float64/));
      await assert.rejects(
        backend.open(fixture("bfloat16-edge")),
        failsWith("MODEL_UNSUPPORTED", /bfloat16-edge/, runtime === "c" ? /tensor x is bfloat16/ : /data type: 16/),
      );
      await assert.rejects(backend.open(fixture("string-edge")), failsWith("MODEL_UNSUPPORTED", /words .*string/));
      await assert.rejects(backend.open(fixture("sequence-edge")), failsWith("MODEL_UNSUPPORTED", /rows is no tensor/));
    });

    test("feeds that the graph does not take are refused, with the input", () =>
      withSession(open(), "sizes", async (session) => {
        const right = { x: floats([1, 2, 3], [1, 1, 3]) };
        await assert.rejects(session.run({}), failsWith("PIPELINE_FAILED", /sizes\.onnx/, /input 'x' is missing/));
        await assert.rejects(session.run({ ...right, other: floats([1]) }), failsWith("PIPELINE_FAILED", /other/));
        const wrongType: Tensor = { type: "int32", data: Int32Array.of(1, 2, 3), dims: [1, 1, 3] };
        await assert.rejects(session.run({ x: wrongType }), failsWith("PIPELINE_FAILED", /x is float32\[batch,,3\], .* int32\[1,1,3\]/));
        await assert.rejects(session.run({ x: floats([1, 2, 3]) }), failsWith("PIPELINE_FAILED", /\bx\b/, /float32\[3\]/));
        await assert.rejects(session.run({ x: floats([1, 2], [1, 1, 2]) }), failsWith("PIPELINE_FAILED", /\bx\b/, /float32\[1,1,2\]/));
        assert.deepEqual((await session.run(right))["y"], right.x);
      }));

    test("data that do not fill the dims are refused", () =>
      withSession(open(), "sizes", async (session) => {
        for (const dims of [
          [1, 2, 3],
          [0, 1, 3],
          [-1, 1, 3],
          [0.5, 2, 3],
        ]) {
          await assert.rejects(session.run({ x: floats([1, 2, 3], dims) }), failsWith("PIPELINE_FAILED", /\bx\b/, new RegExp(dims.join())));
        }
      }));

    test("memory that was transferred is not read", () =>
      withSession(open(), "scalar", async (session) => {
        const x = floats([3], []);
        structuredClone(x.data.buffer, { transfer: [x.data.buffer as ArrayBuffer] });
        await assert.rejects(session.run({ x }), failsWith("PIPELINE_FAILED", /\bx\b/, /0 values/));
      }));

    test("weights beside the graph are found by path", () =>
      withSession(open(), "external", async (session) => {
        const { y } = await session.run({ x: { type: "float32", data: new Float32Array(4096).fill(1), dims: [4096] } });
        assert.equal(y?.data[4095], 4096);
      }));

    test("missing, cut, foreign and empty files are MODEL_CORRUPT and named", async () => {
      const backend = open();
      await assert.rejects(backend.open(join(dir, "absent.onnx")), failsWith("MODEL_CORRUPT", /absent\.onnx/, /doesn't exist/));
      const graph = await readFile(fixture("every-type"));
      const contents = { cut: graph.subarray(0, graph.length / 2), foreign: Buffer.from("GIF89a, and no graph"), empty: Buffer.alloc(0) };
      for (const [name, content] of Object.entries(contents)) {
        await writeFile(join(dir, `${name}.onnx`), content);
        await assert.rejects(backend.open(join(dir, `${name}.onnx`)), failsWith("MODEL_CORRUPT", new RegExp(name), /models verify/));
      }
    });

    test("missing and cut external weights are MODEL_CORRUPT and named", async () => {
      const backend = open();
      await copyFile(fixture("external"), join(dir, "external.onnx"));
      await rm(join(dir, "external.onnx_data"), { force: true });
      await assert.rejects(backend.open(join(dir, "external.onnx")), failsWith("MODEL_CORRUPT", /external\.onnx_data/));
      await copyFile(new URL("external.onnx_data", FIXTURES), join(dir, "external.onnx_data"));
      await truncate(join(dir, "external.onnx_data"), 100);
      await assert.rejects(backend.open(join(dir, "external.onnx")), failsWith("MODEL_CORRUPT", /100/));
    });

    test("an unknown operator is MODEL_UNSUPPORTED and named", () =>
      assert.rejects(open().open(fixture("unknown-op")), failsWith("MODEL_UNSUPPORTED", /Frobnicate/)));

    test("memory that runs out is OUT_OF_MEMORY, and the session runs again", () =>
      withSession(open(), "expand", async (session) => {
        const ask = (elements: bigint) =>
          session.run({ one: floats([3]), shape: { type: "int64", data: BigInt64Array.of(elements), dims: [1] } });
        await assert.rejects(
          ask(10n ** 12n),
          failsWith("OUT_OF_MEMORY", new RegExp(`expand\\.onnx failed on ${TEST_DEVICE_ID}`), /4000000000000/),
        );
        assert.deepEqual((await ask(2n))["y"], floats([3, 3]));
      }));

    test("runs of one session follow each other, each with its own results", () =>
      withSession(open(), "accumulate", async (session) => {
        const runs = Array.from({ length: 50 }, (_, at) => session.run({ state: floats([at]), x: floats([1000]) }));
        for (const [at, { next }] of (await Promise.all(runs)).entries()) assert.deepEqual(next, floats([1000 + at]));
      }));

    test("the same memory may be given twice, and results are memory of their own", () =>
      withSession(open(), "accumulate", async (session) => {
        const same = floats([4, 5]);
        const first = await session.run({ state: same, x: same });
        await session.run({ state: floats([0, 0]), x: same });
        assert.deepEqual(first["next"], floats([8, 10]));
      }));

    test("releasing twice is harmless, running or binding afterwards is a named bug", async () => {
      const session = await open().open(fixture("scalar"));
      await Promise.all([session.release(), session.release()]);
      await session.release();
      await assert.rejects(session.run({ x: floats([1], []) }), failsWith("INTERNAL", /scalar\.onnx .*after its release/));
      assert.throws(() => session.bind(), failsWith("INTERNAL", /scalar\.onnx .*after its release/));
    });

    test("a release waits for the run under way", async () => {
      const session = await open().open(fixture("loop"));
      const run = session.run({ times: count(20_000n), x: floats([0]) });
      const order: string[] = [];
      await Promise.all([run.then(() => order.push("run")), session.release().then(() => order.push("release"))]);
      assert.deepEqual(order, ["run", "release"]);
      assert.deepEqual((await run)["y"], floats([20_000]));
    });

    test("a profiled session says which provider ran its nodes", async () => {
      const profileDir = await mkdtemp(join(dir, "profile-"));
      const session = await open({ profileDir }).open(fixture("accumulate"));
      await session.run({ state: floats([1]), x: floats([2]) });
      await session.release();
      const [profile = ""] = await readdir(profileDir);
      assert.match(await readFile(join(profileDir, profile), "utf8"), new RegExp(EXECUTION_PROVIDERS[TEST_DEVICE.kind]));
    });

    test("asking for CUDA where its libraries are not there fails", async (context) => {
      if ((await detectDevices("auto")).some(({ kind }) => kind === "cuda")) return context.skip("this machine has CUDA");
      const cuda = { kind: "cuda", index: 0, threads: 0 } as const;
      await assert.rejects(open({ device: cuda }).open(fixture("expand")), failsWith("DEVICE_UNAVAILABLE", /on cuda:0/));
    });
  });
}
