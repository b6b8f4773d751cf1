import assert from "node:assert/strict";
import { it } from "node:test";
import type { RunnerMessage } from "../protocol/ipc.ts";
import { BatchContext } from "./run-context.ts";

function contextWith(options: { readonly previews?: boolean; readonly cancelled?: Set<string>; readonly open?: Set<string> } = {}) {
  const sent: RunnerMessage[] = [];
  const said: string[] = [];
  const clock = { ms: 0 };
  const cancelled = options.cancelled ?? new Set<string>();
  const open = options.open ?? new Set(["a", "b"]);
  const guarded: (AbortSignal | null)[] = [];
  const context = new BatchContext({
    send: (message) => sent.push(message),
    say: (line) => said.push(line),
    previews: options.previews ?? true,
    cancelled,
    isOpen: (id) => open.has(id),
    guard: (signal) => guarded.push(signal),
    now: () => clock.ms,
  });
  const cancel = (id: string): void => {
    cancelled.add(id);
    context.review();
  };
  const end = (id: string): void => {
    open.delete(id);
    context.review();
  };
  /** Whether a run that begins or goes on now would be ended; null: it goes to its end whatever comes. */
  const endsRuns = (): boolean | null => guarded.at(-1)?.aborted ?? null;
  return { context, sent, said, clock, guarded, cancel, end, endsRuns };
}

it("four previews a second and job go out, others are not even rendered", async () => {
  const { context, sent, clock } = contextWith();
  let rendered = 0;
  const render = (): Uint8Array => {
    rendered += 1;
    return new Uint8Array(8);
  };
  for (clock.ms = 0; clock.ms < 1_000; clock.ms += 10) {
    context.preview("a", clock.ms, render);
    context.preview("b", clock.ms, render);
    await context.settled();
  }
  assert.deepEqual(
    sent.map((message) => message.type === "preview" && `${message.id}${message.step}`),
    ["a0", "b0", "a250", "b250", "a500", "b500", "a750", "b750"],
  );
  assert.equal(rendered, sent.length);
});

it("while a job's preview is being rendered there is no other of it, whatever the rate", async () => {
  const { context, sent, clock } = contextWith();
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  context.preview("a", 1, () => promise);
  clock.ms = 10_000;
  context.preview("a", 2, () => assert.fail("it was rendered"));
  context.preview("b", 2, () => new Uint8Array(1));
  resolve(new Uint8Array(1));
  await context.settled();
  assert.deepEqual(sent.map((message) => message.type === "preview" && `${message.id}${message.step}`).toSorted(), ["a1", "b2"]);
});

it("a preview that cannot be made costs the preview, whether it throws at once or later", async () => {
  const { context, sent, said } = contextWith();
  context.preview("a", 1, () => {
    throw new RangeError("16 channels expected");
  });
  context.preview("b", 1, () => Promise.reject(new Error("libvips is out of sorts")));
  await context.settled();
  assert.deepEqual(sent, []);
  assert.match(said.join("\n"), /job a dropped: .*16 channels[^]*job b dropped: .*libvips/);
});

it("a preview that is ready after its job's end is not sent", async () => {
  const { context, sent } = contextWith({ open: new Set(["b"]) });
  context.preview("a", 1, () => new Uint8Array(1));
  context.preview("b", 1, () => new Uint8Array(1));
  await context.settled();
  assert.deepEqual(
    sent.map((message) => message.type === "preview" && message.id),
    ["b"],
  );
});

it("no preview is rendered where they are switched off", () => {
  contextWith({ previews: false }).context.preview("a", 1, () => assert.fail("it was rendered"));
});

it("a stage's runs end once all whom they are for are cancelled, not before", () => {
  const { context, cancel, endsRuns } = contextWith();
  context.stage("denoise", ["a", "b"]);
  cancel("a");
  assert.equal(endsRuns(), false);
  cancel("b");
  assert.equal(endsRuns(), true);
});

it("a cancel that came before the stage ends its runs as well, one for another job does not", () => {
  const { context, cancel, endsRuns } = contextWith();
  cancel("a");
  context.stage("decode", ["a"]);
  assert.equal(endsRuns(), true);
  context.stage("decode", ["b"]);
  assert.equal(endsRuns(), false);
});

it("a member that has ended is not asked whether the others' work goes on", () => {
  const { context, cancel, end, endsRuns } = contextWith();
  context.stage("encode", ["a", "b"]);
  end("a");
  assert.equal(endsRuns(), false);
  cancel("b");
  assert.equal(endsRuns(), true);
});

it("once those of a stage have ended no run is ended any more, whoever is cancelled", () => {
  const { context, cancel, end, guarded, endsRuns } = contextWith();
  context.stage("speak", ["a"]);
  const [signal] = guarded;
  cancel("a");
  end("a");
  assert.equal(endsRuns(), null);
  context.stage("speak", ["b"]);
  end("b");
  assert.equal(endsRuns(), null);
  cancel("b");
  assert.equal(endsRuns(), null);
  assert.equal(signal?.aborted, true);
});

it("a stage that a progress message has just told of is not told again, the next time it is", async () => {
  const { context, sent } = contextWith();
  context.stage("denoise", ["a"]);
  context.progress("a", { fraction: 0.5, stage: "denoise", step: 1, steps: 2, stepMs: 1 });
  context.stage("denoise", ["a"]);
  context.stage("denoise", ["a"]);
  context.progress("a", { fraction: 1, stage: "denoise", step: 2, steps: 2, stepMs: 1 });
  context.stage("decode", ["a"]);
  assert.deepEqual(
    sent.map((message) => (message.type === "stage" ? message.stage : message.type)),
    ["denoise", "progress", "denoise", "progress", "decode"],
  );
});

it("a stage says whom it is for, also when it only goes on without one of them", () => {
  const { context, sent } = contextWith();
  context.stage("denoise", ["a", "b"]);
  context.progress("b", { fraction: 0.5, stage: "denoise", step: 1, steps: 2, stepMs: 1 });
  context.stage("denoise", ["b"]);
  assert.deepEqual(
    sent.flatMap((message) => (message.type === "stage" ? [message.ids] : [])),
    [["a", "b"], ["b"]],
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
