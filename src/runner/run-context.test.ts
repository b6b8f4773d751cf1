import assert from "node:assert/strict";
import { it } from "node:test";
import type { RunnerMessage } from "../protocol/ipc.ts";
import { BatchContext } from "./run-context.ts";

function contextWith(options: { readonly previews?: boolean; readonly cancelled?: Set<string> } = {}) {
  const sent: RunnerMessage[] = [];
  const said: string[] = [];
  const clock = { ms: 0 };
  const context = new BatchContext({
    send: (message) => sent.push(message),
    say: (line) => said.push(line),
    previews: options.previews ?? true,
    cancelled: options.cancelled ?? new Set(),
    now: () => clock.ms,
  });
  return { context, sent, said, clock };
}

it("four previews a second and job go out, others are dropped", () => {
  const { context, sent, clock } = contextWith();
  for (clock.ms = 0; clock.ms < 1_000; clock.ms += 10) {
    context.preview("a", new Uint8Array(8), clock.ms);
    context.preview("b", new Uint8Array(8), clock.ms);
  }
  assert.deepEqual(
    sent.map((message) => message.type === "preview" && `${message.id}${message.step}`),
    ["a0", "b0", "a250", "b250", "a500", "b500", "a750", "b750"],
  );
});

it("a preview beyond 16 KiB is dropped, said, and costs no turn", () => {
  const { context, sent, said } = contextWith();
  context.preview("a", new Uint8Array(16 * 1024 + 1), 3);
  assert.match(said[0] ?? "", /step 3 dropped: 16385 bytes/);
  assert.equal(context.previewDue("a"), true);
  context.preview("a", new Uint8Array(16 * 1024), 4);
  assert.equal(sent.length, 1);
});

it("a preview is sent without the buffer that it is a view of", () => {
  const { context, sent } = contextWith();
  context.preview("a", new Uint8Array(1024 * 1024).subarray(5, 10), 1);
  assert.ok(sent[0]?.type === "preview" && sent[0].jpeg.buffer.byteLength === 5);
});

it("no preview is due where they are switched off", () => {
  assert.equal(contextWith({ previews: false }).context.previewDue("a"), false);
});

it("a stage is announced at once and lets what waits in the event loop in", async () => {
  const cancelled = new Set<string>();
  const { context, sent } = contextWith({ cancelled });
  setImmediate(() => cancelled.add("a"));
  const waiting = context.stage("denoise");
  assert.deepEqual(sent, [{ type: "stage", stage: "denoise" }]);
  assert.equal(context.cancelled("a"), false);
  await waiting;
  assert.equal(context.cancelled("a"), true);
});

it("a stage that a progress message has just told of is not told again, the next time it is", async () => {
  const { context, sent } = contextWith();
  await context.stage("denoise");
  context.progress("a", { fraction: 0.5, stage: "denoise", step: 1, steps: 2, stepMs: 1 });
  await context.stage("denoise");
  await context.stage("denoise");
  context.progress("a", { fraction: 1, stage: "denoise", step: 2, steps: 2, stepMs: 1 });
  await context.stage("decode");
  assert.deepEqual(
    sent.map((message) => (message.type === "stage" ? message.stage : message.type)),
    ["denoise", "progress", "denoise", "progress", "decode"],
  );
});

it("progress stays within 0 and 1", () => {
  const { context, sent } = contextWith();
  context.progress("a", { fraction: 1.5, stage: "s", step: 1, steps: 1, stepMs: 1 });
  context.progress("a", { fraction: -1, stage: "s", step: 1, steps: 1, stepMs: 1 });
  assert.deepEqual(
    sent.map((message) => message.type === "progress" && message.fraction),
    [1, 0],
  );
});
