import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { after, test } from "node:test";
import { sha256File } from "../../lib/sha256-file.ts";
import type { AppError } from "../../protocol/error.ts";
import { encodeAudio, type AudioFormat, type EncodeAudioOptions } from "./encode-audio.ts";
import { openFfmpeg } from "./ffmpeg.ts";

const root = await mkdtemp(join(tmpdir(), "encode-audio-test-"));
after(() => rm(root, { recursive: true, force: true }));

const RATE = 16_000;
/** A tone of 440 Hz in chunks of 1,000 samples. */
async function* tone(seconds: number): AsyncGenerator<Float32Array> {
  for (let at = 0; at < seconds * RATE; at += 1_000) {
    yield Float32Array.from({ length: 1_000 }, (_, index) => 0.5 * Math.sin((2 * Math.PI * 440 * (at + index)) / RATE));
  }
}

const optionsFor = async (format: AudioFormat, more: Partial<EncodeAudioOptions> = {}): Promise<EncodeAudioOptions> => ({
  outDir: await mkdtemp(join(root, "out-")),
  format,
  sourceRate: RATE,
  sampleRate: RATE,
  channels: 1,
  ...more,
});

interface Probe {
  readonly codec: string;
  readonly rate: number;
  readonly seconds: number;
}

async function probe(path: string): Promise<Probe> {
  const args = ["-show_entries", "stream=codec_name,sample_rate:format=duration", "-of", "json", path];
  await using run = openFfmpeg({ what: "probing", program: "ffprobe", args, failure: "INTERNAL" });
  const found = JSON.parse(await text(run.stdout)) as {
    streams: [{ codec_name: string; sample_rate: string }];
    format: { duration: string };
  };
  return { codec: found.streams[0].codec_name, rate: Number(found.streams[0].sample_rate), seconds: Number(found.format.duration) };
}

for (const [format, codec, contentType] of [
  ["mp3", "mp3", "audio/mpeg"],
  ["wav", "pcm_s16le", "audio/wav"],
  ["flac", "flac", "audio/flac"],
  ["ogg", "vorbis", "audio/ogg"],
] as const) {
  test(`${format}: codec, rate and length are as asked for`, async () => {
    const options = await optionsFor(format, { sampleRate: 22_050 });
    const { file, seconds } = await encodeAudio(tone(2), options);
    const path = join(options.outDir, file.name);
    assert.deepEqual([file.name, file.role, file.contentType], [`audio.${format}`, "main", contentType]);
    assert.deepEqual(await sha256File(path), { sha256: file.sha256, sizeBytes: file.sizeBytes });
    assert.deepEqual(await readdir(options.outDir), [file.name]);
    const found = await probe(path);
    assert.deepEqual([found.codec, found.rate], [codec, 22_050]);
    assert.ok(Math.abs(found.seconds - 2) < 0.1, `${found.seconds} s`);
    assert.equal(seconds, 2);
  });
}

test("samples survive a wav to 16 bits", async () => {
  const options = await optionsFor("wav");
  const { file } = await encodeAudio(tone(1), options);
  const args = ["-i", join(options.outDir, file.name), "-f", "f32le", "pipe:1"];
  await using run = openFfmpeg({ what: "reading", args, failure: "INTERNAL" });
  const bytes = await buffer(run.stdout);
  const read = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const expected: number[] = [];
  for await (const chunk of tone(1)) expected.push(...chunk);
  assert.equal(read.length, expected.length);
  assert.ok(read.every((sample, index) => Math.abs(sample - (expected[index] ?? NaN)) < 1 / 32_000));
});

test("a tempo shortens it", async () => {
  const options = await optionsFor("flac", { tempo: 2 });
  const { file } = await encodeAudio(tone(4), options);
  const { seconds } = await probe(join(options.outDir, file.name));
  assert.ok(Math.abs(seconds - 2) < 0.1, `${seconds} s`);
});

test("what is no sound is refused, and leaves no file", async () => {
  const bad = async (chunks: AsyncIterable<Float32Array>, message: RegExp, code = "BAD_OUTPUT"): Promise<void> => {
    const options = await optionsFor("mp3");
    await assert.rejects(encodeAudio(chunks, options), (error: AppError) => error.code === code && message.test(error.message));
    assert.ok(!(await readdir(options.outDir)).includes("audio.mp3"));
  };
  const none = async function* (): AsyncGenerator<Float32Array> {};
  const nan = async function* (): AsyncGenerator<Float32Array> {
    yield Float32Array.of(0, Number.NaN);
  };
  await bad(none(), /no samples/);
  await bad(nan(), /not finite/);
});

test("an impossible rate is ffmpeg's to refuse, however much is still to come", async () => {
  await assert.rejects(encodeAudio(tone(300), await optionsFor("mp3", { sampleRate: 7 })), { code: "BAD_OUTPUT" });
});

test("a source that fails is the failure", async () => {
  const failing = async function* (): AsyncGenerator<Float32Array> {
    yield new Float32Array(10);
    throw new Error("the model failed");
  };
  await assert.rejects(encodeAudio(failing(), await optionsFor("ogg")), /the model failed/);
});
