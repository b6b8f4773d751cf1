import { FRAME_FACTOR, PIXEL_FACTOR, type VideoShape } from "./video-latents.ts";

/** How a pipeline places latent frames in time: `LTXPipeline` and `LTXConditionPipeline` differ. */
export type Placement = "classic" | "condition";

/** Cosines and sines of the rotary embedding, `[tokens, width / 2]`: neighbouring features share an angle, the graph repeats them. */
export interface RopeTables {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly tokens: number;
}

const THETA = 10_000;
/** Frames, rows and columns of what the model was trained on stand for 1 (transformer_ltx.py, LTXVideoRotaryPosEmbed). */
const BASE = { frames: 20, height: 2048, width: 2048 } as const;

export interface RopeOptions {
  /** Latent clip. */
  readonly shape: VideoShape;
  readonly fps: number;
  readonly placement: Placement;
  /** Width of the transformer, even. */
  readonly width: number;
  /** Sample frames that further pictures stand at; their tokens come before the clip's. Only `condition` has them. */
  readonly extraFrames?: readonly number[];
}

/**
 * Tables of the rotary embedding in the float32 steps of diffusers. The angles of frequency 10000 are up to 15708 rad, where a unit in
 * the last place is 1e-3: torch's own power differs from the exact one by as much.
 */
export function ropeTables({ shape, fps, placement, width, extraFrames = [] }: RopeOptions): RopeTables {
  const seconds = [...extraFrames.map((frame) => conditionSeconds(frame, fps)), ...timesOf(shape.frames, fps, placement)];
  const frequencies = frequenciesOf(width);
  const time = anglesOf(seconds, BASE.frames, frequencies);
  const down = anglesOf(pixelsOf(shape.height), BASE.height, frequencies);
  const across = anglesOf(pixelsOf(shape.width), BASE.width, frequencies);
  const tokens = seconds.length * shape.height * shape.width;
  const half = width / 2;
  const tables = { cos: new Float32Array(tokens * half).fill(1), sin: new Float32Array(tokens * half), tokens };
  const padding = half - 3 * frequencies.length;
  for (let token = 0; token < tokens; token++) {
    const column = token % shape.width;
    const row = Math.floor(token / shape.width) % shape.height;
    const frame = Math.floor(token / (shape.width * shape.height));
    const at = token * half + padding;
    copyAngles(time, frame, tables, at);
    copyAngles(down, row, tables, at + 1);
    copyAngles(across, column, tables, at + 2);
  }
  return tables;
}

/** Every third value from `at` on: frame, row and column take turns. */
function copyAngles(axis: Angles, position: number, { cos, sin }: RopeTables, at: number): void {
  const end = (position + 1) * axis.frequencies;
  let to = at;
  for (let from = position * axis.frequencies; from < end; from++) {
    cos[to] = axis.cos[from]!;
    sin[to] = axis.sin[from]!;
    to += 3;
  }
}

/** `10000 ** linspace(0, 1, width // 6) * pi / 2`. */
function frequenciesOf(width: number): Float32Array {
  const count = Math.floor(width / 6);
  const step = count === 1 ? 0 : Math.fround(1 / (count - 1));
  return Float32Array.from({ length: count }, (_, i) => {
    // torch.linspace counts from the nearer end, multiply and add rounded once.
    const exponent = i < Math.floor(count / 2) ? Math.fround(step * i) : Math.fround(1 - step * (count - 1 - i));
    return Math.fround(Math.fround(THETA ** exponent) * Math.fround(Math.PI)) / 2;
  });
}

/** Values of one axis, `[positions, frequencies]`: far fewer than tokens. */
interface Angles {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
  readonly frequencies: number;
}

function anglesOf(positions: readonly number[], base: number, frequencies: Float32Array): Angles {
  const cos = new Float32Array(positions.length * frequencies.length);
  const sin = new Float32Array(cos.length);
  let at = 0;
  for (const position of positions) {
    const place = Math.fround(Math.fround(Math.fround(position / base) * 2) - 1);
    for (const frequency of frequencies) {
      const angle = Math.fround(frequency * place);
      cos[at] = Math.cos(angle);
      sin[at++] = Math.sin(angle);
    }
  }
  return { cos, sin, frequencies: frequencies.length };
}

function timesOf(frames: number, fps: number, placement: Placement): readonly number[] {
  const scale = Math.fround(FRAME_FACTOR / fps);
  return Array.from({ length: frames }, (_, frame) =>
    placement === "classic" ? Math.fround(frame * scale) : conditionSeconds(Math.max(0, frame * FRAME_FACTOR + 1 - FRAME_FACTOR), fps),
  );
}

/** The first latent frame is one sample frame, the others begin at 1, 9, 17 ... */
function conditionSeconds(sampleFrame: number, fps: number): number {
  return Math.fround(sampleFrame * Math.fround(1 / fps));
}

function pixelsOf(count: number): readonly number[] {
  return Array.from({ length: count }, (_, i) => i * PIXEL_FACTOR);
}
