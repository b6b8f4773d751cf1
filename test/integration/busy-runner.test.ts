import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import sharp from "sharp";
import type { Session } from "../../src/pipelines/backend.ts";
import type { Pipeline } from "../../src/pipelines/pipeline.ts";
import type { RunnerMessage } from "../../src/protocol/ipc.ts";
import { parseManifest } from "../../src/protocol/manifest.ts";
import { RunnerLoop } from "../../src/runner/runner-loop.ts";
import { openTestBackend, TEST_DEVICE } from "../support/test-device.ts";

const GRAPH = join(import.meta.dirname, "..", "fixtures", "ort", "cosines.onnx");
const MANIFEST = parseManifest(
  {
    version: 1,
    slug: "turns",
    name: "Turns",
    family: "vits",
    tasks: ["txt2audio"],
    license: { id: "x", commercial: true },
    source: { repository: "x" },
    memoryBytes: { cpu: 1 },
  },
  "test",
);

/** The graph's loop, so many turns of it. */
async function turns(session: Session, count: bigint): Promise<number> {
  const { waveform } = await session.run({ input_ids: { type: "int64", data: BigInt64Array.of(count), dims: [1, 1] } });
  return Number(waveform?.data[0]);
}

/** Two native runs: one that never ends, beside which a preview is encoded by the real library, and one turn of the loop. */
function pipelineOf(session: Session, done: number[]): Pipeline {
  return {
    run: async ([job], context, end) => {
      const id = job?.id ?? "";
      context.stage("speak", [id]);
      const endless = turns(session, 10n ** 15n);
      context.preview(id, 1, () =>
        sharp({ create: { width: 64, height: 64, channels: 3, background: "red" } })
          .jpeg()
          .toBuffer(),
      );
      await endless.catch((error: unknown) => end(id, { ok: false, error }));
    },
    probe: async () => void done.push(await turns(session, 1n)),
    close: () => session.release(),
  };
}

test("while a native run goes on the runner sends what is ready and takes commands; what needs the device waits for it", async () => {
  const backend = openTestBackend({}, "c");
  const done: number[] = [];
  const sent: RunnerMessage[] = [];
  const waiters = new Map<RunnerMessage["type"], () => void>();
  const exited = Promise.withResolvers<number>();
  const loop = new RunnerLoop({
    send: (message) => {
      sent.push(message);
      waiters.get(message.type)?.();
    },
    say: (line) => assert.fail(line),
    exit: exited.resolve,
    prove: () => Promise.resolve({}),
    load: async () => ({
      pipeline: pipelineOf(await backend.open(GRAPH), done),
      providers: {},
      guard: (signal) => backend.guard(signal),
    }),
  });
  const next = (type: RunnerMessage["type"]): Promise<void> => new Promise((resolve) => waiters.set(type, resolve));
  const types = (): readonly string[] => sent.map(({ type }) => type);

  const previewed = next("preview");
  loop.handle({ type: "load", manifest: MANIFEST, modelDir: "", device: TEST_DEVICE, previews: true, embeddingCacheBytes: 0 });
  loop.handle({ type: "run", batch: "b", jobs: [{ id: "a", task: "txt2audio", params: {}, inputs: [], outDir: "" }] });
  await previewed;
  const answered = next("pong");
  loop.handle({ type: "ping", nonce: 1 });
  assert.deepEqual(types(), ["ready", "stage", "preview"]);
  loop.handle({ type: "cancel", id: "a" });
  await answered;
  assert.deepEqual(types(), ["ready", "stage", "preview", "job-failed", "batch-done", "pong"]);
  const failed = sent.find((message) => message.type === "job-failed");
  assert.equal(failed?.error.code, "CANCELLED");
  assert.deepEqual(done, [1], "the cosine of nothing: the ping's run was not ended");
  loop.handle({ type: "stop" });
  assert.equal(await exited.promise, 0);
});
