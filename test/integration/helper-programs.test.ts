import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { FAMILY_PROGRAMS } from "../../src/core/family-programs.ts";
import { openHelperPrograms } from "../../src/models/helper-programs.ts";
import { decodeAudio } from "../../src/pipelines/media/decode-audio.ts";
import { encodeAudio } from "../../src/pipelines/media/encode-audio.ts";
import { openVideo } from "../../src/pipelines/media/encode-video.ts";
import { findFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import type { JobEnd } from "../../src/pipelines/pipeline.ts";
import type { AppError } from "../../src/protocol/error.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import type { Task } from "../../src/protocol/task.ts";
import { childrenOfThis, killChildren } from "../support/children.ts";
import { loadShipped, runJob, type LoadedModel } from "../support/pipeline-rig.ts";
import { babble, wavOf } from "../support/whisper-audio.ts";

const RATE = 16_000;
const codeOf = (end: JobEnd): string => (end.ok ? "done" : (end.error as AppError).code);

/** No program that a job started is there after the job's end, however it ended: none is waited for, since the job's end has done that. */
describe("helper programs", () => {
  let root: string;
  const models = new Map<string, LoadedModel>();

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "helper-programs-"));
    for (const slug of ["tiny-whisper", "tiny-vits", "tiny-kokoro", "tiny-musicgen", "tiny-ltx-video"])
      models.set(slug, await loadShipped(slug));
    assert.deepEqual(childrenOfThis(), []);
  });
  afterEach(() => assert.deepEqual(childrenOfThis(), []));
  after(async () => {
    for (const { pipeline } of models.values()) await pipeline.close();
    await rm(root, { recursive: true, force: true });
  });

  const jobOf = async (task: Task, params: JobParams, path?: string): Promise<RunnerJob> => ({
    id: "job-1",
    task,
    params,
    inputs: path === undefined ? [] : [{ name: "audio", path, contentType: "audio/wav" }],
    outDir: await mkdtemp(join(root, "out-")),
  });

  async function run(slug: string, job: RunnerJob, cancelAtStage?: number): Promise<{ readonly code: string; readonly stages: number }> {
    const model = models.get(slug);
    assert.ok(model !== undefined);
    const { end, told } = await runJob(model.pipeline, job, cancelAtStage === undefined ? {} : { cancelAtStage });
    assert.deepEqual(childrenOfThis(), [], `${slug}, ${codeOf(end)} at stage ${told.stages.length} (${told.stages.at(-1)})`);
    if (!end.ok) assert.ok(!(await readdir(job.outDir)).some((name) => name.endsWith(".partial")));
    return { code: codeOf(end), stages: told.stages.length };
  }

  async function wav(name: string, samples: Int16Array): Promise<string> {
    const path = join(root, name);
    await writeFile(path, wavOf(samples));
    return path;
  }

  /** More of it than a pipe and ffmpeg's own buffers hold: whoever stops reading leaves an ffmpeg that waits. */
  const withTail = (speech: Int16Array): Int16Array => {
    const samples = new Int16Array(120 * RATE);
    samples.set(speech);
    return samples;
  };

  test("none outlives a transcription that ends before its audio does, is cancelled at any stage or fails", async () => {
    const path = await wav("long.wav", withTail(babble(11, 6 * RATE)));
    const whole = await run("tiny-whisper", await jobOf("audiofile2txt", { include_ts: false }, path));
    assert.equal(whole.code, "done");
    for (let stage = 1; stage < whole.stages; stage = stage * 2) {
      const { code } = await run("tiny-whisper", await jobOf("audiofile2txt", { include_ts: false }, path), stage);
      assert.ok(code === "CANCELLED" || stage >= whole.stages - 1, `stage ${stage} of ${whole.stages}: ${code}`);
    }
    const broken = join(root, "broken.mp3");
    await writeFile(broken, "no sound at all");
    assert.equal((await run("tiny-whisper", await jobOf("audiofile2txt", { include_ts: false }, broken))).code, "MEDIA_UNREADABLE");
    const short = await loadShipped("tiny-whisper", { limits: { max_duration: 5 } });
    const { end } = await runJob(short.pipeline, await jobOf("audiofile2txt", { include_ts: false }, path));
    assert.equal(codeOf(end), "INPUT_TOO_LARGE");
    await short.pipeline.close();
  });

  for (const [slug, task, params] of [
    ["tiny-vits", "txt2audio", { text: "One sentence. Another one. And a third.", lang: "en-us", format: "mp3" }],
    ["tiny-kokoro", "txt2audio", { text: "One sentence. Another one. And a third.", lang: "en-us", voice: "af_sky", format: "mp3" }],
    ["tiny-musicgen", "txt2music", { caption: "drums", duration: 1, seed: 1, format: "mp3" }],
    ["tiny-ltx-video", "txt2video", { prompt: "waves", width: 64, height: 64, frames: 17, fps: 8, steps: 2, seed: 1 }],
  ] as const) {
    test(`none outlives a job of ${slug} that is cancelled at any stage, or whose encoder cannot write`, async () => {
      const whole = await run(slug, await jobOf(task, params));
      assert.equal(whole.code, "done");
      for (let stage = 1; stage < whole.stages; stage++) {
        const { code } = await run(slug, await jobOf(task, params), stage);
        assert.ok(code === "CANCELLED" || stage >= whole.stages - 2, `stage ${stage} of ${whole.stages}: ${code}`);
      }
      const nowhere = { ...(await jobOf(task, params)), outDir: join(root, "nowhere") };
      const model = models.get(slug);
      assert.ok(model !== undefined);
      const { end } = await runJob(model.pipeline, nowhere);
      assert.equal(end.ok, false);
    });
  }

  test("an encoder that is killed between two chunks ends the job at once, with the right error", async () => {
    let returned = false;
    const chunks = async function* (): AsyncGenerator<Float32Array> {
      try {
        yield new Float32Array(RATE);
        killChildren();
        // For as long as it is asked: only the encoder's end can end this.
        for (;;) yield new Float32Array(RATE);
      } finally {
        returned = true;
      }
    };
    const outDir = await mkdtemp(join(root, "out-"));
    const target = { outDir, format: "wav", sourceRate: RATE, sampleRate: RATE, channels: 1 } as const;
    await assert.rejects(encodeAudio(chunks(), target), { code: "INTERNAL", message: /^writing audio\.wav: ffmpeg ended with SIGKILL/ });
    assert.ok(returned);
    assert.deepEqual(await readdir(outDir), []);
    const video = openVideo({ outDir, width: 64, height: 64, fps: 8, frames: 2_000 });
    await video.write(new Uint8Array(64 * 64 * 3));
    killChildren();
    await assert.rejects(
      async () => {
        for (let frame = 1; frame < 2_000; frame++) await video.write(new Uint8Array(64 * 64 * 3));
        await video.finish();
      },
      { code: "INTERNAL", message: /^writing video\.mp4 with libx264: ffmpeg ended with SIGKILL/ },
    );
    await video[Symbol.asyncDispose]();
    assert.deepEqual(await readdir(outDir), []);
  });

  test("a decoder that is killed is the machine's failure, not the input's", async () => {
    const path = await wav("killed.wav", withTail(babble(12, RATE)));
    await assert.rejects(
      async () => {
        for await (const _ of decodeAudio({ path, sampleRate: RATE, maxSeconds: 1_000 })) killChildren();
      },
      { code: "INTERNAL", message: /^decoding killed\.wav: ffmpeg ended with SIGKILL/ },
    );
  });

  test("what a family is said to need is what its pipeline asks for, and this machine has all of it", async () => {
    const empty = await mkdtemp(join(root, "empty-"));
    const { PATH } = process.env;
    const find = openHelperPrograms({ env: { PATH }, ffmpegDir: null });
    for (const slug of ["tiny-flux-schnell", ...models.keys()]) {
      const missing = async (env: { readonly PATH: string; readonly DRYAPI_FFMPEG_DIR?: string }): Promise<string> => {
        Object.assign(process.env, env);
        try {
          const { pipeline } = await loadShipped(slug);
          await pipeline.close();
          return "";
        } catch (thrown) {
          assert.equal((thrown as AppError).code, "MODEL_UNSUPPORTED");
          return (thrown as AppError).message.split(" ")[0] ?? "";
        } finally {
          process.env["PATH"] = PATH;
          delete process.env["DRYAPI_FFMPEG_DIR"];
        }
      };
      const { manifest } = models.get(slug) ?? (await loadShipped(slug));
      const needed = FAMILY_PROGRAMS[manifest.family].map(({ program }) => program);
      assert.equal(await missing({ PATH: empty }), needed[0] ?? "", slug);
      assert.equal(await missing({ PATH: empty, DRYAPI_FFMPEG_DIR: dirname(findFfmpeg()) }), needed[1] ?? "", slug);
      assert.deepEqual(await find(manifest), [], slug);
    }
  });
});
