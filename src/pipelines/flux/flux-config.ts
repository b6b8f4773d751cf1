import { z } from "zod";
import type { FileRoleOf, PartOf } from "../../core/family-layout.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { parseFlowMatchConfig, type FlowMatchConfig } from "../diffusion/flow-match-schedule.ts";
import type { PictureModel } from "../diffusion/picture-model.ts";
import type { GraphFile } from "../graph/open-graphs.ts";
import { fileIdentity, fileOf, graphFiles, readOptionalJson, readOptions } from "../model-folder.ts";

export type FluxPart = PartOf<"flux">;

const optionsSchema = z.strictObject({
  /** Tokens for CLIP. */
  clip_length: z.int().min(2).max(512).default(77),
  /** Tokens for T5: 256 for schnell, 512 for dev. Another length gives another picture. */
  t5_length: z.int().min(2).max(512).default(512),
});

/** Flux.1's autoencoder; a folder without vae_decoder/config.json (other layouts) is taken to have it. */
const vaeSchema = z.object({
  scaling_factor: z.number().positive().default(0.3611),
  shift_factor: z
    .number()
    .nullish()
    .transform((value) => value ?? 0),
  latent_channels: z.int().positive().default(16),
  block_out_channels: z.array(z.int()).min(1).default([128, 256, 512, 512]),
});
const FLUX_VAE = { scaling_factor: 0.3611, shift_factor: 0.1159, latent_channels: 16 };

export interface FluxConfig {
  readonly clipLength: number;
  readonly t5Length: number;
  readonly schedule: FlowMatchConfig;
  readonly latents: Omit<PictureModel["latents"], "rgb">;
  readonly tokenizerDir: string;
  readonly tokenizer2Dir: string;
  readonly graphs: ReadonlyMap<FluxPart, GraphFile>;
}

/** Reads what a Flux folder says about itself. @throws AppError MANIFEST_INVALID | MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readFluxConfig(manifest: Manifest, modelDir: string): Promise<FluxConfig> {
  const options = readOptions(manifest, optionsSchema);
  const graphs = await graphFiles(manifest, modelDir, "flux");
  const pathOf = (role: FileRoleOf<"flux">): string => fileOf<"flux">(manifest, modelDir, role);
  const schedulerPath = pathOf("scheduler");
  const scheduler = await readOptionalJson(schedulerPath);
  if (scheduler === undefined)
    throw new AppError("MODEL_CORRUPT", `${schedulerPath} does not exist; name it in files.scheduler of the manifest`);
  const vae = await readVae(pathOf("vae_config"), manifest.files["vae_config"] !== undefined);
  return {
    clipLength: options.clip_length,
    t5Length: options.t5_length,
    schedule: parseFlowMatchConfig(scheduler, schedulerPath),
    latents: {
      channels: vae.latent_channels,
      factor: 2 ** (vae.block_out_channels.length - 1),
      scale: vae.scaling_factor,
      shift: vae.shift_factor,
    },
    tokenizerDir: pathOf("tokenizer"),
    tokenizer2Dir: pathOf("tokenizer_2"),
    graphs,
  };
}

async function readVae(path: string, isNamed: boolean): Promise<z.infer<typeof vaeSchema>> {
  const found = await readOptionalJson(path);
  if (found === undefined && isNamed) throw new AppError("MODEL_CORRUPT", `${path} (files.vae_config of the manifest) does not exist`);
  const parsed = vaeSchema.safeParse(found ?? FLUX_VAE);
  if (!parsed.success)
    throw new AppError("MODEL_UNSUPPORTED", `${path}: not an autoencoder's configuration: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** What the embeddings of a text depend on besides the text: both encoders' files and the lengths. */
export async function textIdentity({ clipLength, t5Length, graphs }: FluxConfig): Promise<string> {
  const files = (["text_encoder", "text_encoder_2"] as const).map((part) => fileIdentity(graphs.get(part)?.path ?? ""));
  return [clipLength, t5Length, ...(await Promise.all(files))].join("|");
}
