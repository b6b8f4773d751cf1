import { z } from "zod";
import type { PartOf } from "../../core/family-layout.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { parseFlowMatchConfig, type FlowMatchConfig } from "../diffusion/flow-match-schedule.ts";
import type { GraphFile } from "../graph/open-graphs.ts";
import { fileIdentity, fileOf, graphFiles, readModelJson, readOptions } from "../model-folder.ts";
import { FRAME_FACTOR } from "./video-latents.ts";

export type LtxPart = PartOf<"ltx-video">;

const wholeLatentFrames = z.int().positive().multipleOf(FRAME_FACTOR);

const optionsSchema = z
  .strictObject({
    /** Which of diffusers' pipelines is followed: LTXPipeline (0.9.0, 0.9.1) or LTXConditionPipeline (0.9.5 on). */
    mode: z.enum(["classic", "condition"]).default("condition"),
    /** Tokens for T5. Another length gives another clip. */
    t5_length: z.int().min(2).max(512).default(256),
    /** Timesteps of a distilled model, falling, below or at 1000; taken where a job asks for as many steps. */
    timesteps: z.array(z.number().positive().max(1000)).min(1).nullable().default(null),
    /** Noise level that the decoder is told, and the share of noise that it gets; only timestep-conditioned decoders look at them. */
    decode_timestep: z.number().min(0).max(1).default(0.05),
    decode_noise_scale: z.number().min(0).max(1).default(0.025),
    /** Fresh noise on a given picture at each step, times the squared noise level; `condition` only. diffusers' docs: 0 for distilled ones. */
    image_cond_noise_scale: z.number().min(0).default(0.15),
    /** Sample frames that are decoded at once, and from one such tile to the next: memory grows with the first. */
    tile_frames: wholeLatentFrames.default(64),
    tile_stride_frames: wholeLatentFrames.default(56),
  })
  .refine(({ tile_frames: size, tile_stride_frames: stride }) => stride < size, "tile_stride_frames must be below tile_frames")
  .refine(
    ({ timesteps }) => timesteps === null || timesteps.every((step, i) => i === 0 || step < timesteps[i - 1]!),
    "timesteps must fall from each to the next",
  );

export interface LtxConfig {
  readonly mode: "classic" | "condition";
  readonly t5Length: number;
  readonly timesteps: readonly number[] | null;
  readonly decodeTimestep: number;
  readonly decodeNoiseScale: number;
  readonly imageNoiseScale: number;
  /** Sample frames. */
  readonly tiling: { readonly size: number; readonly stride: number };
  readonly schedule: FlowMatchConfig;
  readonly tokenizerDir: string;
  readonly graphs: ReadonlyMap<LtxPart, GraphFile>;
}

/** Reads what an LTX-Video folder says about itself. @throws AppError MANIFEST_INVALID | MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readLtxConfig(manifest: Manifest, modelDir: string): Promise<LtxConfig> {
  const options = readOptions(manifest, optionsSchema);
  const schedulerPath = fileOf<"ltx-video">(manifest, modelDir, "scheduler");
  const schedule = parseFlowMatchConfig(await readModelJson(schedulerPath, z.unknown(), "a schedule"), schedulerPath);
  if (options.mode === "condition") requireUnshifted(schedule, schedulerPath);
  return {
    mode: options.mode,
    t5Length: options.t5_length,
    timesteps: options.timesteps,
    decodeTimestep: options.decode_timestep,
    decodeNoiseScale: options.decode_noise_scale,
    imageNoiseScale: options.mode === "condition" ? options.image_cond_noise_scale : 0,
    tiling: { size: options.tile_frames, stride: options.tile_stride_frames },
    schedule,
    tokenizerDir: fileOf<"ltx-video">(manifest, modelDir, "tokenizer"),
    graphs: await graphFiles(manifest, modelDir, "ltx-video"),
  };
}

/** LTXConditionPipeline steps by timesteps, which a shift would part from the noise levels. */
function requireUnshifted(schedule: FlowMatchConfig, path: string): void {
  const { shift, use_dynamic_shifting: dynamic, shift_terminal: terminal } = schedule;
  if (shift === 1 && dynamic !== true && !terminal) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${path}: shift ${shift}, use_dynamic_shifting ${dynamic ?? false}, shift_terminal ${terminal ?? null}; mode condition expects 1, false, null: take mode classic (options.mode of the manifest) or the schedule of 0.9.5 or later`,
  );
}

/** What the embedding of a text depends on besides the text: the encoder's file, the length and whether padding is left out. */
export async function textIdentity({ t5Length, mode, graphs }: LtxConfig): Promise<string> {
  return [t5Length, mode, await fileIdentity(graphs.get("text_encoder")?.path ?? "")].join("|");
}
