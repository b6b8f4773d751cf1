import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer, text } from "node:stream/consumers";
import { after, test } from "node:test";
import sharp from "sharp";
import type { AppError } from "../../protocol/error.ts";
import { openVideo } from "./encode-video.ts";
import { openFfmpeg } from "./ffmpeg.ts";
import { chooseH264 } from "./h264-encoder.ts";

const root = await mkdtemp(join(tmpdir(), "encode-video-test-"));
after(() => rm(root, { recursive: true, force: true }));
const folder = (): Promise<string> => mkdtemp(join(root, "out-"));
const WIDTH = 96;
const HEIGHT = 64;

/** A clip that goes from red to blue, with a gradient in green: smooth, so that H.264 keeps it closely. */
function frame(index: number, frames: number, width = WIDTH, height = HEIGHT): Uint8Array {
  const rgb = new Uint8Array(width * height * 3);
  const at = Math.round((255 * index) / (frames - 1));
  for (let pixel = 0; pixel < width * height; pixel++) rgb.set([255 - at, (pixel % width) * 2, at], pixel * 3);
  return rgb;
}

async function writeClip(outDir: string, frames: number, width = WIDTH, height = HEIGHT) {
  await using video = openVideo({ outDir, width, height, fps: 30, frames, comment: "a test" });
  for (let i = 0; i < frames; i++) await video.write(frame(i, frames, width, height));
  return await video.finish();
}

async function probe(path: string): Promise<{ streams: Record<string, unknown>[]; format: { tags: Record<string, string> } }> {
  const args = ["-show_streams", "-show_format", "-count_frames", "-of", "json", path];
  await using run = openFfmpeg({ what: "probing", program: "ffprobe", args, failure: "INTERNAL" });
  const found = JSON.parse(await text(run.stdout)) as Awaited<ReturnType<typeof probe>>;
  await run.ended;
  return found;
}

async function decode(path: string): Promise<Buffer> {
  const args = ["-i", path, "-vf", "scale=in_color_matrix=bt709:in_range=tv", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"];
  await using run = openFfmpeg({ what: "decoding", args, failure: "INTERNAL" });
  const bytes = await buffer(run.stdout);
  await run.ended;
  return bytes;
}

test("a clip is H.264, yuv420p, BT.709, indexed at the front, and shows what went in", async () => {
  const outDir = await folder();
  const files = await writeClip(outDir, 17);
  assert.deepEqual(
    files.map(({ name, role, contentType }) => `${role} ${name} ${contentType}`),
    ["main video.mp4 video/mp4", "alt poster.jpg image/jpeg", "alt video.webp image/webp"],
  );
  assert.deepEqual((await readdir(outDir)).toSorted(), ["poster.jpg", "video.mp4", "video.webp"]);
  const path = join(outDir, "video.mp4");
  const { streams, format } = await probe(path);
  const { codec_name, pix_fmt, width, height, nb_read_frames, r_frame_rate, color_space, color_primaries, color_transfer, color_range } =
    streams[0] ?? {};
  assert.deepEqual(
    [codec_name, pix_fmt, width, height, nb_read_frames, r_frame_rate, color_space, color_primaries, color_transfer, color_range],
    ["h264", "yuv420p", WIDTH, HEIGHT, "17", "30/1", "bt709", "bt709", "bt709", "tv"],
  );
  assert.equal(format.tags["comment"], "a test");
  const bytes = await readFile(path);
  assert.ok(bytes.indexOf("moov") < bytes.indexOf("mdat"), "the index is at the front");
  const pixels = await decode(path);
  for (const index of [0, 8, 16]) {
    const expected = frame(index, 17);
    const shown = pixels.subarray(index * expected.length, (index + 1) * expected.length);
    const mean = expected.reduce((sum, value, i) => sum + Math.abs(value - (shown[i] ?? NaN)), 0) / expected.length;
    assert.ok(mean <= 3, `frame ${index} differs by ${mean} levels in the mean`);
  }
});

test("the poster is the first frame; the animation has at most 40 frames of at most 512 px and lasts as long", async () => {
  const outDir = await folder();
  await writeClip(outDir, 97, 640, 32);
  const poster = await sharp(join(outDir, "poster.jpg")).raw().toBuffer({ resolveWithObject: true });
  assert.deepEqual([poster.info.width, poster.info.height], [640, 32]);
  assert.ok((poster.data[0] ?? 0) > 245 && (poster.data[2] ?? 255) < 10);
  const { pages, width, pageHeight, delay } = await sharp(join(outDir, "video.webp"), { animated: true }).metadata();
  assert.deepEqual([pages, width, pageHeight], [33, 512, 26]);
  assert.deepEqual([...new Set(delay)], [100]);
});

test("an odd size is refused", () => {
  assert.throws(
    () => openVideo({ outDir: root, width: 97, height: 64, fps: 30, frames: 1 }),
    (error: Error) => error instanceof RangeError && /97 x 64/.test(error.message),
  );
});

test("a clip that is given up leaves nothing", async () => {
  const outDir = await folder();
  {
    await using video = openVideo({ outDir, width: WIDTH, height: HEIGHT, fps: 30, frames: 9 });
    await video.write(frame(0, 9));
  }
  assert.deepEqual(await readdir(outDir), []);
});

test("an encoder that fails is told in its words, also while frames are written", async () => {
  const encoder = { name: "libx264", args: ["-c:v", "no_such_codec"], memoryBytes: 8 * 1024 ** 3 } as const;
  await using video = openVideo({ outDir: await folder(), width: 640, height: 480, fps: 30, frames: 1_000, encoder });
  const rgb = new Uint8Array(640 * 480 * 3);
  const writeAll = async (): Promise<void> => {
    for (let i = 0; i < 1_000; i++) await video.write(rgb);
    await video.finish();
  };
  await assert.rejects(writeAll(), (error: AppError) => error.code === "BAD_OUTPUT" && /no_such_codec/.test(error.message));
});

test("without a GPU, or with one that cannot, the processor encodes", async () => {
  assert.equal((await chooseH264({ kind: "cpu", index: 0, threads: 1 })).name, "libx264");
  assert.equal((await chooseH264({ kind: "cuda", index: 99, threads: 1 })).name, "libx264");
});
