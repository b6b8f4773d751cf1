import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { onTinyDisk } from "../support/tiny-disk.ts";
import { babble, wavOf } from "../support/whisper-audio.ts";

const root = await mkdtemp(join(tmpdir(), "full-disk-"));
after(() => rm(root, { recursive: true, force: true }));
const from = (path: string): string => JSON.stringify(import.meta.resolve(path));

const JOBS = {
  fake: { task: "txt2img", params: { output_bytes: 20_000 } },
  "tiny-flux-schnell": { task: "txt2img", params: { prompt: "a pond", width: 64, height: 64, steps: 2, seed: 1 } },
  "tiny-ltx-video": { task: "txt2video", params: { prompt: "waves", width: 64, height: 64, frames: 17, fps: 8, steps: 2, seed: 1 } },
  "tiny-vits": { task: "txt2audio", params: { text: "One sentence.", lang: "en-us", format: "wav" } },
  "tiny-kokoro": { task: "txt2audio", params: { text: "One sentence.", lang: "en-us", voice: "af_sky", format: "mp3" } },
  "tiny-musicgen": { task: "txt2music", params: { caption: "drums", duration: 1, seed: 1, format: "flac" } },
  "tiny-whisper": { task: "audiofile2txt", params: { include_ts: false } },
} as const;

/** Runs each family's job in a real runner loop: on a full disk, and on the same runner once there is room. */
const script = (wav: string): string => `
  import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
  import { loadModel } from ${from("../../src/runner/load-model.ts")};
  import { RunnerLoop } from ${from("../../src/runner/runner-loop.ts")};
  import { parseManifest } from ${from("../../src/protocol/manifest.ts")};
  const disk = process.argv[2];
  const models = ${JSON.stringify(join(import.meta.dirname, "..", "..", "models"))};
  const jobs = ${JSON.stringify(JOBS)};
  const said = {};
  for (const [slug, { task, params }] of Object.entries(jobs)) {
    const waiting = new Map();
    const next = (type) => new Promise((resolve) => waiting.set(type, resolve));
    let end = null;
    const loop = new RunnerLoop({
      send: (message) => {
        if (message.type === "fatal") console.error(message);
        if (message.type === "job-failed" || message.type === "job-done") end = message;
        if (message.type === "job-done") loop.handle({ type: "ack", id: message.id });
        waiting.get(message.type)?.(message);
      },
      say: () => undefined,
      exit: () => process.exit(1),
      load: loadModel,
    });
    const path = models + "/" + slug + "/model.json";
    const manifest = parseManifest(JSON.parse(readFileSync(path, "utf8")), path);
    const ready = next("ready");
    loop.handle({ type: "load", manifest, modelDir: models + "/" + slug, device: { kind: "cpu", index: 0, threads: 1 }, previews: false, embeddingCacheBytes: 0 });
    await ready;
    const run = async () => {
      const done = next("batch-done");
      const outDir = disk + "/" + slug;
      const inputs = task === "audiofile2txt" ? [{ name: "audio", path: ${JSON.stringify(wav)}, contentType: "audio/wav" }] : [];
      loop.handle({ type: "run", batch: "b", jobs: [{ id: "job-1", task, params, inputs, outDir }] });
      const { reusable } = await done;
      return [end.type === "job-done" ? "done" : end.error.code, reusable];
    };
    mkdirSync(disk + "/" + slug);
    const filler = openSync(disk + "/filler", "w");
    try {
      for (;;) writeSync(filler, Buffer.alloc(4096, 1));
    } catch {}
    closeSync(filler);
    const full = await run();
    rmSync(disk + "/filler");
    const room = await run();
    said[slug] = { full, room };
    rmSync(disk + "/" + slug, { recursive: true });
  }
  console.log(JSON.stringify(said));
  process.exit(0);`;

test("in every family a full disk is the machine's fault and costs neither the runner nor the model: with room the job is done", async (t) => {
  const wav = join(root, "speech.wav");
  await writeFile(wav, wavOf(babble(11, 16_000)));
  const said = await onTinyDisk(script(wav), (reason) => t.skip(reason));
  if (said === null) return;
  const expected = Object.keys(JOBS).map((slug) => [slug, { full: ["SPOOL_FULL", true], room: ["done", true] }]);
  assert.deepEqual(said, Object.fromEntries(expected));
});
