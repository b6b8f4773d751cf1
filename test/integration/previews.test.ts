import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, mock, test } from "node:test";
import sharp, { type JpegOptions, type Sharp } from "sharp";
import type { RunnerMessage } from "../../src/protocol/ipc.ts";
import { parseManifest } from "../../src/protocol/manifest.ts";
import type { Task } from "../../src/protocol/task.ts";
import { loadModel, proveDevice } from "../../src/runner/load-model.ts";
import { RunnerLoop } from "../../src/runner/runner-loop.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";
const MODELS = join(import.meta.dirname, "..", "..", "models");
const root = await mkdtemp(join(tmpdir(), "previews-"));
after(() => rm(root, { recursive: true, force: true }));

/** Previews are the only pictures of so low a quality. */
const PREVIEW_QUALITY = 75;

for (const [slug, task, params] of [
  ["tiny-flux-schnell", "txt2img", { prompt: "a pond", width: 64, height: 64, steps: 3, seed: 1 }],
  ["tiny-ltx-video", "txt2video", { prompt: "waves", width: 64, height: 64, frames: 9, fps: 8, steps: 3, seed: 1 }],
] as const satisfies readonly (readonly [string, Task, Record<string, string | number>])[]) {
  test(`${slug}: a preview that libvips cannot encode costs the preview; the job is done and the runner goes on`, async (t) => {
    const said: string[] = [];
    const sent: RunnerMessage[] = [];
    const waiting = new Map<string, () => void>();
    const next = (type: RunnerMessage["type"]): Promise<void> => new Promise((resolve) => waiting.set(type, resolve));
    const loop = new RunnerLoop({
      send: (message) => {
        sent.push(message);
        if (message.type === "job-done") loop.handle({ type: "ack", id: message.id });
        waiting.get(message.type)?.();
      },
      say: (line) => said.push(line),
      exit: () => undefined,
      load: loadModel,
      prove: proveDevice,
    });
    const modelDir = join(MODELS, slug);
    const manifest = parseManifest(JSON.parse(await readFile(join(modelDir, "model.json"), "utf8")), slug);
    const ready = next("ready");
    loop.handle({
      type: "load",
      manifest,
      modelDir,
      device: { kind: "cpu", index: 0, threads: 1 },
      previews: true,
      embeddingCacheBytes: 0,
    });
    await ready;
    const prototype = Object.getPrototypeOf(sharp(Buffer.alloc(3), { raw: { width: 1, height: 1, channels: 3 } })) as Sharp;
    const encode = prototype.jpeg;
    const broken = mock.method(prototype, "jpeg", function (this: Sharp, options?: JpegOptions): Sharp {
      if ((options?.quality ?? 100) <= PREVIEW_QUALITY) throw new Error("jpegsave: out of order");
      return encode.call(this, options);
    });
    t.after(() => broken.mock.restore());
    const done = next("batch-done");
    const outDir = await mkdtemp(join(root, "out-"));
    loop.handle({ type: "run", batch: "b", jobs: [{ id: "job-1", task, params, inputs: [], outDir }] });
    await done;
    assert.match(said.join("\n"), /preview of step 1 of job job-1 dropped: .*out of order/);
    assert.deepEqual(
      sent.flatMap((message) => (message.type === "preview" || message.type.startsWith("job-") ? [message.type] : [])),
      ["job-done"],
    );
    const last = sent.at(-1);
    assert.ok(last?.type === "batch-done" && last.reusable);
    const closed = next("pong");
    loop.handle({ type: "ping", nonce: 1 });
    await closed;
  });
}
