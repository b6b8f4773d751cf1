/** `video-job.ts FRAMES STEPS`: makes a clip twice in this process and prints the second one's times, ms, and the peak resident set, bytes. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LIBX264 } from "../../src/pipelines/media/h264-encoder.ts";
import { openFfmpeg } from "../../src/pipelines/media/ffmpeg.ts";
import { loadShipped, runJob } from "../../test/support/pipeline-rig.ts";

const SIZE = { width: 512, height: 128, fps: 30 };
const [frames, steps] = process.argv.slice(2).map(Number);

export interface VideoTimes {
  readonly ms: number;
  readonly sessionMs: number;
  /** ffmpeg alone, with the same settings, from a file of raw frames. */
  readonly ffmpegMs: number;
  readonly peakBytes: number;
}

const dir = await mkdtemp(join(tmpdir(), "video-bench-"));
try {
  const { pipeline } = await loadShipped("tiny-ltx-video");
  const params = { prompt: "waves", ...SIZE, frames: frames ?? 0, steps: steps ?? 0, seed: 1 };
  let ms = 0;
  let sessionMs = 0;
  for (let round = 0; round < 2; round++) {
    const startedAt = performance.now();
    const { end } = await runJob(pipeline, { id: "bench", task: "txt2video", params, inputs: [], outDir: dir });
    if (!end.ok) throw end.error;
    ({ sessionMs } = end.output);
    ms = performance.now() - startedAt;
  }
  const peakBytes = process.resourceUsage().maxRSS * 1024;
  await pipeline.close();
  const times: VideoTimes = { ms, sessionMs, ffmpegMs: await bareFfmpegMs(), peakBytes };
  process.stdout.write(`${JSON.stringify(times)}\n`);
} finally {
  await rm(dir, { recursive: true, force: true });
}

async function bareFfmpegMs(): Promise<number> {
  const raw = ["-f", "rawvideo", "-pix_fmt", "rgb24"];
  const colours = ["-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p", "-movflags", "+faststart"];
  await ffmpeg("-i", join(dir, "video.mp4"), ...raw, join(dir, "frames.rgb"));
  const source = [...raw, "-s", `${SIZE.width}x${SIZE.height}`, "-r", String(SIZE.fps), "-i", join(dir, "frames.rgb")];
  const startedAt = performance.now();
  await ffmpeg(...source, ...LIBX264.args, ...colours, join(dir, "bare.mp4"));
  return performance.now() - startedAt;
}

async function ffmpeg(...args: readonly string[]): Promise<void> {
  await using run = openFfmpeg({ what: "bare ffmpeg", args, failure: "INTERNAL" });
  await run.ended;
}
