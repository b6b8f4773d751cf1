import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import { publicMessage, type AppError } from "../../src/protocol/error.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import { loadShipped, runJob, type LoadedModel, type Told } from "../support/pipeline-rig.ts";
import { babble } from "../support/whisper-audio.ts";
import { readWhisperGoldens } from "../support/whisper-rig.ts";

const RATE = 16_000;

interface TranscriptFile {
  readonly language: string | null;
  readonly duration: number;
  readonly text: string;
  readonly segments: readonly { readonly start: number; readonly end: number; readonly text: string }[];
}

/** From files as clients send them to texts; the decoding itself is compared with transformers in whisper-golden.test.ts. */
describe("transcription", () => {
  let root: string;
  let model: LoadedModel;
  let wav: string;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), "transcription-test-"));
    model = await loadShipped("tiny-whisper");
    wav = join(root, "speech.wav");
    await write(wav, babble(11, 6 * RATE));
  });
  after(async () => {
    await model.pipeline.close();
    await rm(root, { recursive: true, force: true });
  });

  /** Runs ffmpeg to make a file of the test's. */
  async function ffmpeg(args: readonly string[], input?: Int16Array): Promise<void> {
    await using run = openFfmpeg({ what: "making a test file", args, failure: "INTERNAL" });
    if (input !== undefined) await run.write(Buffer.from(input.buffer, input.byteOffset, input.byteLength));
    await run.finish();
  }
  const write = (path: string, samples: Int16Array): Promise<void> =>
    ffmpeg(["-f", "s16le", "-ar", String(RATE), "-ac", "1", "-i", "pipe:0", path], samples);

  const jobOf = async (path: string, params: JobParams = {}): Promise<RunnerJob> => ({
    id: "text-1",
    task: "audiofile2txt",
    params: { include_ts: false, ...params },
    inputs: [{ name: "audio", path, contentType: "audio/wav" }],
    outDir: await mkdtemp(join(root, "out-")),
  });

  async function transcribe(
    path: string,
    params: JobParams = {},
  ): Promise<{ text: string; json: TranscriptFile; inline?: string; told: Told }> {
    const job = await jobOf(path, params);
    const { end, told } = await runJob(model.pipeline, job);
    if (!end.ok) throw end.error;
    assert.deepEqual(
      end.output.files.map(({ name, role }) => [name, role]),
      [
        ["transcript.txt", "main"],
        ["transcript.json", "alt"],
      ],
    );
    const text = await readFile(join(job.outDir, "transcript.txt"), "utf8");
    const json = JSON.parse(await readFile(join(job.outDir, "transcript.json"), "utf8")) as TranscriptFile;
    return { text, json, told, ...(end.output.text !== undefined && { inline: end.output.text }) };
  }

  test("text, stamped text and JSON say the same, which is what transformers says", async () => {
    const golden = (await readWhisperGoldens()).find(({ name }) => name === "short");
    assert.ok(golden !== undefined);
    const path = join(root, "golden.wav");
    await write(path, babble(golden.seed, golden.samples));
    const plain = await transcribe(path);
    const stamped = await transcribe(path, { include_ts: true, return_result_in_response: true });
    const texts = golden.segments.map(({ text }) => text.trim()).filter((text) => text !== "");
    assert.deepEqual(
      plain.json.segments.map(({ text }) => text),
      texts,
    );
    assert.equal(plain.text, texts.join(" "));
    assert.equal(plain.inline, undefined);
    assert.equal(stamped.inline, stamped.text);
    assert.equal(stamped.text.split("\n").length, texts.length);
    assert.match(stamped.text, /^\[00:00:0\d\.\d{3} --> 00:00:0\d\.\d{3}\] /);
    assert.equal(plain.json.language, golden.detected);
    assert.ok(Math.abs(plain.json.duration - golden.samples / RATE) < 0.01);
  });

  test("what is lossless says the same in every container; films and lossy sound are read, too", async () => {
    const { json } = await transcribe(wav);
    for (const [name, codec] of [
      ["speech.flac", ["-c:a", "flac"]],
      ["speech.mkv", ["-c:a", "pcm_s16le"]],
      ["speech.mov", ["-c:a", "pcm_s16le"]],
    ] as const) {
      await ffmpeg(["-i", wav, ...codec, join(root, name)]);
      assert.deepEqual((await transcribe(join(root, name))).json, json, name);
    }
    await ffmpeg([
      "-f",
      "lavfi",
      "-i",
      "color=red:s=64x64:d=6",
      "-i",
      wav,
      "-shortest",
      "-c:v",
      "libx264",
      "-c:a",
      "aac",
      join(root, "film.mp4"),
    ]);
    for (const name of ["speech.mp3", "speech.ogg", "speech.m4a", "film.mp4"]) {
      if (name !== "film.mp4") await ffmpeg(["-i", wav, join(root, name)]);
      const { json: lossy } = await transcribe(join(root, name));
      assert.ok(Math.abs(lossy.duration - json.duration) < 0.1, `${name}: ${lossy.duration}`);
    }
  });

  test("silence is an empty text, at any length, and costs no run of the model", async () => {
    const path = join(root, "silence.wav");
    await write(path, new Int16Array(70 * RATE));
    const { text, json, told } = await transcribe(path);
    assert.equal(text, "");
    assert.deepEqual([json.language, json.segments], [null, []]);
    assert.ok(!told.stages.includes("decode") && !told.stages.includes("encode"));
    assert.equal(told.fractions.at(-1), 1);
  });

  test("progress follows the audio", async () => {
    const path = join(root, "long.wav");
    await write(path, babble(13, 75 * RATE));
    const { told } = await transcribe(path);
    assert.ok(told.fractions.length >= 3);
    assert.deepEqual(
      told.fractions,
      told.fractions.toSorted((a, b) => a - b),
    );
    assert.equal(told.fractions.at(-1), 1);
  });

  test("what cannot be read is told precisely, and the model goes on", async () => {
    const broken = join(root, "broken.mp3");
    await writeFile(broken, "no sound at all, whatever its name says");
    const cut = join(root, "cut.mp4");
    await writeFile(cut, (await readFile(join(root, "film.mp4"))).subarray(0, 2_000));
    const mute = join(root, "mute.mp4");
    await ffmpeg(["-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-c:v", "libx264", mute]);
    const empty = join(root, "empty.wav");
    await write(empty, new Int16Array(0));
    const playlist = join(root, "list.m3u8");
    await writeFile(playlist, `#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:6,\n${wav}\n#EXT-X-ENDLIST\n`);
    for (const [path, expected, message] of [
      [broken, "MEDIA_UNREADABLE", /broken\.mp3/],
      [cut, "MEDIA_UNREADABLE", /cut\.mp4/],
      [mute, "NO_SOUND_TRACK", /mute\.mp4 has no sound track/],
      [empty, "NO_SOUND_TRACK", /empty\.wav/],
      // A playlist names other files: it must not be followed.
      [playlist, "MEDIA_UNREADABLE", /list\.m3u8/],
      // Nobody's fault but ours.
      [join(root, "absent.wav"), "INTERNAL", /absent\.wav/],
    ] as const) {
      const { end } = await runJob(model.pipeline, await jobOf(path));
      assert.ok(!end.ok, path);
      const { code, message: said, field } = end.error as AppError;
      assert.deepEqual([code, field], [expected, expected === "INTERNAL" ? undefined : "audio"], said);
      assert.match(said, message);
      // What a client reads names no file of ours.
      assert.doesNotMatch(publicMessage(end.error as AppError), /\.(mp3|mp4|wav|m3u8)|\//);
    }
    await model.pipeline.probe();
  });

  test("sound that is too long is refused where it begins to be", async () => {
    const short = await loadShipped("tiny-whisper", { limits: { max_duration: 5 } });
    try {
      const { end } = await runJob(short.pipeline, await jobOf(wav));
      assert.ok(!end.ok);
      assert.deepEqual(
        [(end.error as AppError).code, publicMessage(end.error as AppError)],
        ["INPUT_TOO_LARGE", "The input is too large. It is longer than the 5 seconds that this model takes."],
      );
    } finally {
      await short.pipeline.close();
    }
  });

  test("a cancel gets in between two tokens", async () => {
    const { end, told } = await runJob(model.pipeline, await jobOf(wav), { cancelAtStage: 6 });
    assert.ok(!end.ok);
    assert.equal((end.error as AppError).code, "CANCELLED");
    assert.equal(told.stages.length, 6);
  });
});
