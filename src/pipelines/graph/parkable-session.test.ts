import assert from "node:assert/strict";
import { test } from "node:test";
import { fakeSession } from "../../../test/support/fake-session.ts";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import type { Session } from "../backend.ts";
import { ParkableSession } from "./parkable-session.ts";

const X = { name: "x", type: "float32", dims: [1] } as const;
const FEEDS = { x: { type: "float32", data: Float32Array.of(2), dims: [1] } } as const;

/** A session that is told apart by its number, and says when it is released. */
function session(released: string[], name: string, options: { readonly input?: string; readonly runMs?: number } = {}): Session {
  const { input = "x", runMs = 0 } = options;
  const inputs = [{ ...X, name: input }];
  const made = fakeSession({ inputs, outputs: [X], run: (feeds) => ({ x: feeds["x"] ?? FEEDS.x }) });
  return { ...made, runMs, traffic: { toDevice: 4, toHost: 8 }, release: async () => void released.push(name) };
}

const fails = (code: ErrorCode, text: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof AppError && thrown.code === code, String(thrown));
  assert.match(thrown.message, text);
  return true;
};

test("a graph is opened once, released when it is parked, and opened again when it is woken", async () => {
  const released: string[] = [];
  let opened = 0;
  const graph = await ParkableSession.open("a.onnx", async () => session(released, `${++opened}`, { runMs: 5 }));
  await graph.wake();
  assert.deepEqual([graph.awake, opened, released], [true, 1, []]);
  await graph.park();
  await graph.park();
  assert.deepEqual([graph.awake, opened, released], [false, 1, ["1"]]);
  await graph.wake();
  assert.deepEqual([graph.awake, opened, released], [true, 2, ["1"]]);
  assert.deepEqual((await graph.run(FEEDS))["x"], FEEDS.x);
  await graph.release();
  assert.deepEqual(released, ["1", "2"]);
  assert.deepEqual([graph.runMs, graph.traffic], [10, { toDevice: 8, toHost: 16 }], "of both lives");
});

test("a parked graph is neither run nor bound", async () => {
  const graph = await ParkableSession.open("a.onnx", async () => session([], "1"));
  await graph.park();
  assert.throws(() => graph.run(FEEDS), fails("INTERNAL", /a\.onnx was run while it was parked/));
  assert.throws(() => graph.bind(), fails("INTERNAL", /a\.onnx was run while it was parked/));
});

test("a wake that fails leaves the graph parked, and the next one may do", async () => {
  let opened = 0;
  const graph = await ParkableSession.open("a.onnx", async () => {
    if (++opened === 2) throw new AppError("OUT_OF_MEMORY", "no room");
    return session([], `${opened}`);
  });
  await graph.park();
  await assert.rejects(graph.wake(), fails("OUT_OF_MEMORY", /no room/));
  assert.equal(graph.awake, false);
  await graph.wake();
  assert.equal(graph.awake, true);
});

test("a file that is of another graph by now is refused, and released", async () => {
  const released: string[] = [];
  let opened = 0;
  const graph = await ParkableSession.open("a.onnx", async () => session(released, `${++opened}`, { input: opened === 1 ? "x" : "y" }));
  await graph.park();
  await assert.rejects(graph.wake(), fails("MODEL_CORRUPT", /a\.onnx was replaced while the model was loaded/));
  assert.deepEqual([graph.awake, released], [false, ["1", "2"]]);
});
