import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { Binding, DeviceTensor, Session, Tensor } from "../../src/pipelines/backend.ts";
import { count, failsWith, floats, must, RUNTIMES, withSession, type RuntimeName } from "../support/runtimes.ts";
import { TEST_DEVICE_ID } from "../support/test-device.ts";

function accumulator(session: Session): Binding {
  const binding = session.bind();
  binding.input("state", floats([0, 0]));
  binding.input("x", floats([1, 2]));
  return binding;
}

for (const [runtime, open] of Object.entries(RUNTIMES)) {
  suite(`runtime ${runtime}: bindings`, () => {
    test("inputs stay until they are given again", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "host");
        assert.deepEqual((await binding.run()).host["next"], floats([1, 2]));
        binding.input("state", floats([10, 10]));
        assert.deepEqual((await binding.run()).host["next"], floats([11, 12]));
        binding.input("state", floats([10, 10, 10]));
        binding.input("x", floats([1, 2, 3]));
        assert.deepEqual((await binding.run()).host["next"], floats([11, 12, 13]));
      }));

    test("outputs that stay on the device are the next inputs, and may be disposed of once they are bound", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "device");
        for (let step = 0; step < 20; step += 1) {
          const { device, host } = await binding.run();
          assert.deepEqual(Object.keys(host), []);
          using next = must(device["next"]);
          assert.deepEqual({ type: next.type, dims: next.dims }, { type: "float32", dims: [2] });
          binding.input("state", next);
        }
        binding.output("next", "host");
        assert.deepEqual((await binding.run()).host["next"], floats([21, 42]));
      }));

    test("results that stay on the device are not written over by the next run", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "device");
        using first = must((await binding.run()).device["next"]);
        binding.input("x", floats([5, 6]));
        using second = must((await binding.run()).device["next"]);
        assert.deepEqual((await session.run({ state: first, x: second }))["next"], floats([6, 8]));
      }));

    test("a device tensor outlives its session, and feeds another", async () => {
      const backend = open();
      const next = await withSession(backend, "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "device");
        return must((await binding.run()).device["next"]);
      });
      await withSession(backend, "accumulate", async (session) => {
        assert.deepEqual((await session.run({ state: next, x: next }))["next"], floats([2, 4]));
      });
      next[Symbol.dispose]();
    });

    test("an output goes into memory of the caller's", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        const target = floats([-1, -1]);
        binding.output("next", target);
        for (let step = 0; step < 3; step += 1) {
          const { host } = await binding.run();
          assert.equal(host["next"], target);
          assert.deepEqual(target, floats([1, 2]));
          binding.input("x", floats([1, 2]));
        }
      }));

    test("memory that an output does not fit into is refused, with both shapes, and the binding stays usable", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        const halves: Tensor = { type: "float16", data: new Uint16Array(2), dims: [2] };
        assert.throws(() => binding.output("next", halves), failsWith("PIPELINE_FAILED", /next is float32\[n\]/, /float16\[2\]/));
        assert.throws(() => binding.output("next", floats([0, 0], [1, 2])), failsWith("PIPELINE_FAILED", /float32\[n\].*float32\[1,2\]/));
        assert.throws(() => binding.output("other", "host"), failsWith("PIPELINE_FAILED", /no output other; .* next/));
        binding.output("next", floats([0, 0, 0]));
        await assert.rejects(binding.run(), failsWith("PIPELINE_FAILED", /next/, /[[{]2[\]}]/, /[[{]3[\]}]/));
        binding.output("next", "host");
        assert.deepEqual((await binding.run()).host["next"], floats([1, 2]));
      }));

    test("a run that fails leaves the binding usable", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "host");
        binding.input("x", floats([1, 2, 3]));
        await assert.rejects(
          binding.run(),
          failsWith("PIPELINE_FAILED", new RegExp(`accumulate\\.onnx failed on ${TEST_DEVICE_ID}`), /2 by 3/),
        );
        binding.input("x", floats([3, 4]));
        assert.deepEqual((await binding.run()).host["next"], floats([3, 4]));
      }));

    test("nothing of a binding changes during its run", () =>
      withSession(open(), "loop", async (session) => {
        using binding = session.bind();
        binding.input("times", count(1000n));
        binding.input("x", floats([0]));
        binding.output("y", "host");
        const run = binding.run();
        const refused = failsWith("INTERNAL", /loop\.onnx.* during its run/);
        assert.throws(() => binding.input("x", floats([1])), refused);
        assert.throws(() => binding.output("y", "device"), refused);
        await assert.rejects(binding.run(), refused);
        assert.deepEqual((await run).host["y"], floats([1000]));
      }));

    test("a binding that is disposed of during its run ends that run, and nothing else", () =>
      withSession(open(), "loop", async (session) => {
        const binding = session.bind();
        binding.input("times", count(1000n));
        binding.input("x", floats([0]));
        binding.output("y", "device");
        const run = binding.run();
        binding[Symbol.dispose]();
        binding[Symbol.dispose]();
        const refused = failsWith("INTERNAL", /binding of .*loop\.onnx was used after its release/);
        await assert.rejects(run, refused);
        assert.throws(() => binding.input("x", floats([1])), refused);
        assert.deepEqual((await session.run({ times: count(2n), x: floats([0]) }))["y"], floats([2]));
      }));

    test("a device tensor is not used after its release, nor by another backend", () =>
      withSession(open(), "accumulate", async (session) => {
        using binding = accumulator(session);
        binding.output("next", "device");
        const next = must((await binding.run()).device["next"]);
        next[Symbol.dispose]();
        next[Symbol.dispose]();
        assert.throws(() => binding.input("state", next), failsWith("INTERNAL", /after its release/));
        const other = RUNTIMES[(runtime as RuntimeName) === "c" ? "node" : "c"]();
        using foreign = await withSession(other, "accumulate", async (stranger): Promise<DeviceTensor> => {
          using strange = accumulator(stranger);
          strange.output("next", "device");
          return must((await strange.run()).device["next"]);
        });
        assert.throws(() => binding.input("state", foreign), failsWith("INTERNAL", /another backend/));
      }));

    test("a session that is released takes its bindings with it", async () => {
      const session = await open().open(new URL("../fixtures/ort/accumulate.onnx", import.meta.url).pathname);
      const binding = accumulator(session);
      binding.output("next", "host");
      await session.release();
      await assert.rejects(binding.run(), failsWith("INTERNAL", /after its release/));
      binding[Symbol.dispose]();
    });
  });
}
