import assert from "node:assert/strict";
import { it } from "node:test";
import { serialize } from "node:v8";
import type { JobEnd, Pipeline } from "../pipelines/pipeline.ts";
import { AppError } from "../protocol/error.ts";
import { MAX_IPC_BYTES, type LoadCommand, type RunnerJob, type RunnerMessage } from "../protocol/ipc.ts";
import { parseManifest } from "../protocol/manifest.ts";
import { RunnerLoop } from "./runner-loop.ts";

const OUTPUT = { files: [], seed: null, info: {}, inputMs: 0, runMs: 0, encodeMs: 0, sessionMs: 0 };
const DONE: JobEnd = { ok: true, output: OUTPUT };

const job = (id: string): RunnerJob => ({ id, task: "txt2img", params: {}, inputs: [], outDir: "/nowhere" });

const LOAD: LoadCommand = {
  type: "load",
  manifest: parseManifest(
    {
      version: 1,
      slug: "some",
      name: "Some",
      family: "fake",
      tasks: ["txt2img"],
      license: { id: "x", commercial: true },
      source: { repository: "x" },
      memoryBytes: { cpu: 1 },
    },
    "test",
  ),
  modelDir: "/nowhere",
  device: { kind: "cpu", index: 0, threads: 1 },
  previews: true,
  embeddingCacheBytes: 0,
};

/** A loop with a pipeline whose `run` is given; `next(type)` waits for the next message of that type. */
function loopWith(run: Pipeline["run"], more: Partial<Pipeline> = {}, ackWaitMs = 60_000) {
  const sent: RunnerMessage[] = [];
  const said: string[] = [];
  const guarded: (AbortSignal | null)[] = [];
  const waiting: { readonly type: string; readonly resolve: (message: RunnerMessage) => void }[] = [];
  const exited = Promise.withResolvers<number>();
  const loop = new RunnerLoop({
    send: (message) => {
      sent.push(message);
      const at = waiting.findIndex(({ type }) => type === message.type);
      if (at >= 0) waiting.splice(at, 1)[0]?.resolve(message);
    },
    say: (line) => said.push(line),
    exit: (code) => exited.resolve(code),
    load: () =>
      Promise.resolve({
        pipeline: { run, probe: () => Promise.resolve(), close: () => Promise.resolve(), ...more },
        providers: { P: 1 },
        guard: (signal) => guarded.push(signal),
      }),
    prove: () => Promise.resolve({ P: 2 }),
    ackWaitMs,
  });
  const next = <T extends RunnerMessage["type"]>(type: T) =>
    new Promise<Extract<RunnerMessage, { type: T }>>((resolve) => {
      waiting.push({ type, resolve: (message) => resolve(message as Extract<RunnerMessage, { type: T }>) });
    });
  loop.handle(LOAD);
  return { loop, sent, said, guarded, next, exited: exited.promise };
}

it("a load ends with what the probe found", async () => {
  const { next } = loopWith(() => Promise.resolve());
  const ready = await next("ready");
  assert.deepEqual([ready.providers, ready.deviceBytes], [{ P: 1 }, null]);
  assert.ok(ready.rssBytes > 0 && ready.loadMs >= 0);
});

it("a batch ends only after the acks of its done jobs", async () => {
  const { loop, sent, next } = loopWith(async (jobs, _, end) => jobs.forEach(({ id }) => end(id, DONE)));
  loop.handle({ type: "run", batch: "b", jobs: [job("one"), job("two")] });
  await next("job-done");
  loop.handle({ type: "ack", id: "one" });
  assert.equal(
    sent.some(({ type }) => type === "batch-done"),
    false,
  );
  loop.handle({ type: "ack", id: "two" });
  assert.equal((await next("batch-done")).reusable, true);
});

it("an ack that never comes keeps the runner only for a bounded time", async () => {
  const { loop, said, next } = loopWith(async (jobs, _, end) => jobs.forEach(({ id }) => end(id, DONE)), {}, 20);
  loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
  await next("batch-done");
  assert.match(said[0] ?? "", /no ack for one/);
});

it("a pipeline that throws fails the jobs it has not ended, and the runner asks to be replaced", async () => {
  const { loop, sent, next } = loopWith(async (_, __, end) => {
    end("one", { ok: false, error: new AppError("INVALID_INPUT", "bad") });
    throw new Error("device lost");
  });
  loop.handle({ type: "run", batch: "b", jobs: [job("one"), job("two")] });
  assert.equal((await next("batch-done")).reusable, false);
  assert.deepEqual(
    sent.flatMap((message) => (message.type === "job-failed" ? [[message.id, message.error.code]] : [])),
    [
      ["one", "INVALID_INPUT"],
      ["two", "PIPELINE_FAILED"],
    ],
  );
});

it("one job out of memory or a failed device asks for a new runner, one job's bad input does not", async () => {
  for (const [code, reusable] of [
    ["OUT_OF_MEMORY", false],
    ["DEVICE_FAILED", false],
    ["INVALID_INPUT", true],
  ] as const) {
    const { loop, next } = loopWith(async (_, __, end) => end("one", { ok: false, error: new AppError(code, "x") }));
    loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
    assert.equal((await next("batch-done")).reusable, reusable, code);
  }
});

it("a job that the pipeline forgot fails, and a second end of a job is ignored", async () => {
  const { loop, sent, said, next } = loopWith(async (_, __, end) => {
    end("one", { ok: false, error: new Error("first") });
    end("one", DONE);
    end("stranger", DONE);
  });
  loop.handle({ type: "run", batch: "b", jobs: [job("one"), job("two")] });
  await next("batch-done");
  assert.deepEqual(
    sent.flatMap((message) => ("error" in message && "id" in message ? [`${message.id} ${message.error.code}`] : [])),
    ["one PIPELINE_FAILED", "two INTERNAL"],
  );
  assert.equal(said.length, 2);
});

it("a text too long for the result is in its file alone, and the result says so", async () => {
  for (const [text, fits] of [
    ["hello ".repeat(8_000), true],
    ["hello ".repeat(11_000), false],
    ["привет ".repeat(3_000), true],
    ["привет ".repeat(5_000), false],
    // One character beyond Latin-1 doubles all others in a message.
    [`${"hello ".repeat(8_000)}…`, false],
    ['"\n'.repeat(15_000), false],
    ["x".repeat(50 * 1024 * 1024), false],
  ] as const) {
    const { loop, said, next } = loopWith(async (_, __, end) =>
      end("one", { ok: true, output: { ...OUTPUT, info: { segments: 3 }, text } }),
    );
    loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
    const done = await next("job-done");
    loop.handle({ type: "ack", id: "one" });
    assert.deepEqual(done.info, fits ? { segments: 3 } : { text_omitted: true, segments: 3 });
    assert.equal(done.text, fits ? text : undefined);
    assert.equal(said.length, fits ? 0 : 1);
    assert.ok(serialize(done).byteLength <= MAX_IPC_BYTES);
    assert.ok(Buffer.byteLength(JSON.stringify(done)) <= MAX_IPC_BYTES);
  }
});

it("a full disk ends its job as the machine's fault, whatever it was taken for, and the runner goes on", async () => {
  const noSpace = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  for (const error of [
    noSpace,
    new AppError("IMAGE_UNREADABLE", "image 0 is damaged", { cause: noSpace }),
    new Error("pngsave_buffer: write error\nsystem error: No space left on device"),
    Object.assign(new Error("EFBIG: file too large, write"), { code: "EFBIG" }),
    Object.assign(new Error("EDQUOT: disk quota exceeded, open"), { code: "EDQUOT" }),
  ])
    for (const run of [
      async (_: unknown, __: unknown, end: (id: string, end: JobEnd) => void) => end("one", { ok: false, error }),
      () => Promise.reject(error),
    ]) {
      const { loop, sent, next } = loopWith(run);
      loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
      assert.equal((await next("batch-done")).reusable, true);
      assert.deepEqual(
        sent.flatMap((message) => (message.type === "job-failed" ? [message.error.code] : [])),
        ["SPOOL_FULL"],
      );
    }
});

it("a cancel that overtakes its batch is seen by it, and not by the next one of that id", async () => {
  const seen: boolean[] = [];
  const { loop, next } = loopWith(async (_, context, end) => {
    seen.push(context.cancelled("one"));
    end("one", { ok: false, error: new Error("x") });
  });
  loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
  loop.handle({ type: "cancel", id: "one" });
  await next("batch-done");
  loop.handle({ type: "run", batch: "c", jobs: [job("one")] });
  await next("batch-done");
  assert.deepEqual(seen, [true, false]);
});

it("a cancel ends the run under way at once; the batch goes on, and the ping after it is not ended", async () => {
  let signal: AbortSignal | null | undefined;
  const rig = loopWith(
    async (jobs, context, end) => {
      for (const { id } of jobs) {
        context.stage("work", [id]);
        signal = rig.guarded.at(-1);
        if (id === "one") {
          rig.loop.handle({ type: "cancel", id });
          end(id, { ok: false, error: new AppError("CANCELLED", `aborted: ${signal?.aborted}`) });
          assert.equal(rig.guarded.at(-1), null);
        } else end(id, { ok: false, error: new AppError("INVALID_INPUT", `aborted: ${signal?.aborted}`) });
      }
    },
    { probe: async () => assert.equal(rig.guarded.at(-1), null) },
  );
  rig.loop.handle({ type: "run", batch: "b", jobs: [job("one"), job("two")] });
  assert.equal((await rig.next("batch-done")).reusable, true);
  assert.deepEqual(
    rig.sent.flatMap((message) => (message.type === "job-failed" ? [`${message.error.code} ${message.error.message}`] : [])),
    ["CANCELLED aborted: true", "INVALID_INPUT aborted: false"],
  );
  rig.loop.handle({ type: "cancel", id: "two" });
  rig.loop.handle({ type: "ping", nonce: 1 });
  await rig.next("pong");
});

it("a device that does not answer a ping is fatal", async () => {
  const { loop, next, exited } = loopWith(() => Promise.resolve(), {
    probe: () => Promise.reject(new AppError("DEVICE_UNAVAILABLE", "gone")),
  });
  const fatal = next("fatal");
  loop.handle({ type: "ping", nonce: 7 });
  assert.equal((await fatal).error.code, "DEVICE_UNAVAILABLE");
  assert.equal(await exited, 1);
});

it("stop closes the pipeline after the batch and exits 0", async () => {
  const order: string[] = [];
  const { loop, exited } = loopWith(
    async (_, __, end) => {
      order.push("run");
      end("one", { ok: false, error: new Error("x") });
    },
    {
      close: async () => void order.push("close"),
    },
  );
  loop.handle({ type: "run", batch: "b", jobs: [job("one")] });
  loop.handle({ type: "stop" });
  assert.equal(await exited, 0);
  assert.deepEqual(order, ["run", "close"]);
});
