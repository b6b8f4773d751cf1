import { inChild } from "./in-child.ts";
import { row, type Row } from "./row.ts";
import type { VideoTimes } from "./video-job.ts";

const FPS = 30;
const STEPS = 8;

/**
 * Text-to-video on the tiny LTX-Video, 512 x 128, each clip in a process of its own: all of a job (steps, tiles, H.264, poster, animation) over its
 * session runs plus ffmpeg alone. The memory of 257 decoded frames would be 200 MB.
 */
export async function videoRows(): Promise<readonly Row[]> {
  const [short, long] = [await clip(33), await clip(257)];
  return [
    row({
      name: `clip of 257 frames, ${STEPS} steps: a job over its session runs and ffmpeg alone`,
      unit: "ms",
      ours: long.ms,
      bare: long.sessionMs + long.ffmpegMs,
    }),
    row({
      name: "the same as seconds of video a second",
      unit: "s/s",
      ours: (257 / FPS) * (1_000 / long.ms),
      bare: (257 / FPS) * (1_000 / (long.sessionMs + long.ffmpegMs)),
    }),
    row({
      name: "peak RSS, a clip of 257 frames over one of 33",
      unit: "MiB",
      ours: long.peakBytes / 2 ** 20,
      bare: short.peakBytes / 2 ** 20,
      goal: { text: "does not grow (<= 1.1)", met: ({ ratio }) => ratio <= 1.1 },
    }),
  ];
}

function clip(frames: number): Promise<VideoTimes> {
  return inChild<VideoTimes>("video-job.ts", frames, STEPS);
}
