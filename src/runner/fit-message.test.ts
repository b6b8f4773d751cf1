import assert from "node:assert/strict";
import { test } from "node:test";
import { serialize } from "node:v8";
import type { ErrorData } from "../protocol/error.ts";
import { MAX_IPC_BYTES, parseRunnerMessage, type RunnerMessage } from "../protocol/ipc.ts";
import { fitMessage } from "./fit-message.ts";

const LONG = "ж".repeat(200_000);
const error: ErrorData = {
  code: "PIPELINE_FAILED",
  message: LONG,
  blackBox: { signal: LONG, stage: LONG, model: LONG, device: LONG, stderr: LONG, exitCode: 1, step: 1, rssBytes: 1 },
};
const file = (index: number) =>
  ({ name: `f${index}`.padEnd(128, "x"), role: "main", contentType: "x".repeat(128), sizeBytes: 1, sha256: "a".repeat(64) }) as const;
const times = { inputMs: 0, runMs: 0, encodeMs: 0, sessionMs: 0 };

/** One of each type, every field of it larger than anything that a pipeline means to say. */
const LARGEST: { readonly [Type in RunnerMessage["type"]]: Extract<RunnerMessage, { type: Type }> } = {
  hello: { type: "hello", version: 1, pid: 1 },
  stage: { type: "stage", stage: LONG },
  ready: {
    type: "ready",
    loadMs: 1,
    rssBytes: 1,
    deviceBytes: null,
    providers: Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`${index}${LONG.slice(0, 500)}`, 1])),
    reports: Array.from({ length: 100 }, () => LONG),
    runtime: {
      api: "node",
      version: LONG,
      library: `/${LONG}`,
      koffi: LONG,
      available: Array.from({ length: 1_000 }, () => LONG.slice(0, 500)),
      fallback: LONG,
    },
    placement: Array.from({ length: 100 }, (_, index) => ({ path: `${index}`, operators: { [LONG]: { [LONG]: 1 } } })),
  },
  fatal: { type: "fatal", error },
  progress: { type: "progress", id: "one", fraction: 1, stage: LONG, step: 1, steps: 1, stepMs: 1 },
  preview: { type: "preview", id: "one", jpeg: new Uint8Array(1024 * 1024).subarray(0, 16 * 1024), step: 1 },
  "job-done": {
    type: "job-done",
    id: "one",
    seed: 1,
    ...times,
    files: Array.from({ length: 16 }, (_, index) => file(index)),
    info: Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`fact ${index}`, LONG.slice(0, 100)])),
    text: "ж".repeat(24 * 1024 - 8),
  },
  "job-failed": { type: "job-failed", id: "one", error },
  "batch-done": { type: "batch-done", batch: "b", reusable: true, rssBytes: 1, deviceBytes: 1 },
  pong: { type: "pong", nonce: 1, opMs: 1 },
};

test("every message is cut to what the daemon takes and to 64 KiB", () => {
  for (const message of Object.values(LARGEST)) {
    const fitted = fitMessage(message, () => undefined);
    assert.equal(fitted?.type, message.type);
    assert.ok(serialize(fitted).byteLength <= MAX_IPC_BYTES, message.type);
    assert.notEqual(parseRunnerMessage(fitted), null, message.type);
  }
});

test("what was not cut the daemon refuses", () => {
  const cut = ["stage", "ready", "fatal", "progress", "job-done", "job-failed"] as const;
  for (const type of cut) assert.equal(parseRunnerMessage(LARGEST[type]), null, type);
  assert.equal(parseRunnerMessage({ ...LARGEST.preview, jpeg: new Uint8Array(16 * 1024 + 1) }), null);
  assert.equal(parseRunnerMessage({ ...LARGEST["job-done"], info: {}, text: "ж".repeat(24 * 1024 + 1) }), null);
});

test("a preview beyond 16 KiB is dropped and said; one within is sent without the buffer that it is a view of", () => {
  const said: string[] = [];
  assert.equal(
    fitMessage({ ...LARGEST.preview, jpeg: new Uint8Array(16 * 1024 + 1) }, (line) => said.push(line)),
    null,
  );
  assert.match(said[0] ?? "", /step 1 dropped: 16385 bytes/);
  const fitted = fitMessage(LARGEST.preview, () => undefined);
  assert.ok(fitted?.type === "preview" && fitted.jpeg.buffer.byteLength === 16 * 1024);
});

test("more files than a result holds are a bad output", () => {
  const fitted = fitMessage({ ...LARGEST["job-done"], files: Array.from({ length: 17 }, (_, index) => file(index)) }, () => undefined);
  assert.ok(fitted?.type === "job-failed" && fitted.error.code === "BAD_OUTPUT" && /17 output files/.test(fitted.error.message));
});

test("facts that find no room are said by name, those before them stay", () => {
  const said: string[] = [];
  const info = { width: 512, novel: LONG, height: 512 };
  const fitted = fitMessage({ ...LARGEST["job-done"], info }, (line) => said.push(line));
  assert.deepEqual(fitted?.type === "job-done" && fitted.info, { width: 512, height: 512 });
  assert.match(said.join(), /fact novel dropped/);
});

test("graphs whose placement finds no room are said by name, those before them stay", () => {
  const said: string[] = [];
  const small = { path: "small.onnx", operators: { CPUExecutionProvider: { Add: 1 } } };
  const many = Object.fromEntries(Array.from({ length: 4_000 }, (_, index) => [`Operator${index}`, 1]));
  const placement = [small, { path: "huge.onnx", operators: { CPUExecutionProvider: many } }, { ...small, path: "last.onnx" }];
  const fitted = fitMessage({ ...LARGEST.ready, placement }, (line) => said.push(line));
  assert.ok(fitted?.type === "ready");
  assert.deepEqual(
    fitted.placement?.map(({ path }) => path),
    ["small.onnx", "last.onnx"],
  );
  assert.match(said.join(), /node placement of huge\.onnx dropped/);
});

test("an error keeps the start of its message and the end of what the process said", () => {
  const stderr = `${LONG}the last words`;
  const fitted = fitMessage({ type: "fatal", error: { ...error, message: `first words ${LONG}`, blackBox: { stderr } } }, () => undefined);
  assert.ok(fitted?.type === "fatal");
  assert.match(fitted.error.message, /^first words ж+$/);
  assert.match(fitted.error.blackBox?.stderr ?? "", /^ж+the last words$/);
});
