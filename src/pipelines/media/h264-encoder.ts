import type { DeviceSpec } from "../../protocol/ipc.ts";
import { FFMPEG_LIMITS, openFfmpeg } from "./ffmpeg.ts";

/** How ffmpeg makes H.264 here. */
export interface H264Encoder {
  readonly name: "libx264" | "h264_nvenc";
  readonly args: readonly string[];
  /** Address space that ffmpeg may use. */
  readonly memoryBytes: number;
}

/** On the processor; visually lossless at a third of the time of the default preset (measured). */
export const LIBX264: H264Encoder = {
  name: "libx264",
  args: ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18"],
  memoryBytes: FFMPEG_LIMITS.memoryBytes,
};

const PROBE_MS = 20_000;
/** CUDA reserves addresses by the size of all GPUs together, not memory. */
const CUDA_ADDRESS_BYTES = 2 ** 44;

/**
 * The GPU's encoder where one encodes a few frames, else the processor's: data centre GPUs (H100, H200 ...) have none, drivers and builds
 * of ffmpeg may lack it. Asked once, when a model is loaded.
 */
export async function chooseH264({ kind, index }: DeviceSpec): Promise<H264Encoder> {
  if (kind !== "cuda") return LIBX264;
  const nvenc = nvencOn(index);
  const source = ["-f", "lavfi", "-i", "testsrc=size=256x256:rate=30:duration=0.2"];
  try {
    await using probe = openFfmpeg({
      what: `probing h264_nvenc on cuda:${index}`,
      args: [...source, ...nvenc.args, "-pix_fmt", "yuv420p", "-f", "null", "-"],
      failure: "DEVICE_UNAVAILABLE",
      limits: { memoryBytes: nvenc.memoryBytes },
      signal: AbortSignal.timeout(PROBE_MS),
    });
    await probe.ended;
    return nvenc;
  } catch {
    return LIBX264;
  }
}

function nvencOn(index: number): H264Encoder {
  const quality = ["-preset", "p5", "-rc", "vbr", "-cq", "19", "-b:v", "0"];
  return { name: "h264_nvenc", args: ["-c:v", "h264_nvenc", "-gpu", String(index), ...quality], memoryBytes: CUDA_ADDRESS_BYTES };
}
