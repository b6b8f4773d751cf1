import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import { isMissing } from "../../lib/errno.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest, ManifestPart } from "../../protocol/manifest.ts";
import { parseFlowMatchConfig, type FlowMatchConfig } from "../diffusion/flow-match-schedule.ts";

/** Files of the Optimum layout by role; a manifest names only those that lie elsewhere. */
const FILES = { scheduler: "scheduler/scheduler_config.json", tokenizer: "tokenizer", tokenizer_2: "tokenizer_2" } as const;
const PARTS = ["text_encoder", "text_encoder_2", "transformer", "vae_decoder", "vae_encoder"] as const;
export type FluxPart = (typeof PARTS)[number];

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
  readonly vaeScale: number;
  readonly vaeShift: number;
  readonly latentChannels: number;
  /** Picture pixels per latent pixel. */
  readonly vaeFactor: number;
  readonly tokenizerDir: string;
  readonly tokenizer2Dir: string;
  /** Absolute path per part; vae_encoder only where a task needs it. */
  readonly parts: ReadonlyMap<FluxPart, { readonly path: string; readonly names: Pick<ManifestPart, "inputs" | "outputs"> }>;
}

/** Reads what a Flux folder says about itself. @throws AppError MANIFEST_INVALID | MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file */
export async function readFluxConfig(manifest: Manifest, modelDir: string): Promise<FluxConfig> {
  const options = optionsSchema.safeParse(manifest.options);
  if (!options.success) {
    throw new AppError("MANIFEST_INVALID", `model ${manifest.slug}: options of the manifest: ${z.prettifyError(options.error)}`);
  }
  const parts = partPaths(manifest, modelDir);
  const schedulerPath = join(modelDir, manifest.files["scheduler"] ?? FILES.scheduler);
  const scheduler = await readJson(schedulerPath);
  if (scheduler === null)
    throw new AppError("MODEL_CORRUPT", `${schedulerPath} does not exist; name it in files.scheduler of the manifest`);
  const vae = await readVae(manifest, modelDir, parts.get("vae_decoder")?.path ?? modelDir);
  return {
    clipLength: options.data.clip_length,
    t5Length: options.data.t5_length,
    schedule: parseFlowMatchConfig(scheduler, schedulerPath),
    vaeScale: vae.scaling_factor,
    vaeShift: vae.shift_factor,
    latentChannels: vae.latent_channels,
    vaeFactor: 2 ** (vae.block_out_channels.length - 1),
    tokenizerDir: join(modelDir, manifest.files["tokenizer"] ?? FILES.tokenizer),
    tokenizer2Dir: join(modelDir, manifest.files["tokenizer_2"] ?? FILES.tokenizer_2),
    parts,
  };
}

function partPaths(manifest: Manifest, modelDir: string): FluxConfig["parts"] {
  const known: ReadonlySet<string> = new Set(PARTS);
  const odd = Object.keys(manifest.parts).find((part) => !known.has(part));
  if (odd !== undefined)
    throw new AppError("MANIFEST_INVALID", `model ${manifest.slug}: part ${odd} is unknown to family flux, expected ${PARTS.join(", ")}`);
  const wanted = PARTS.filter((part) => part !== "vae_encoder" || manifest.tasks.includes("img2img"));
  return new Map(
    wanted.map((part) => {
      const { file = `${part}/model.onnx`, inputs = {}, outputs = {} } = manifest.parts[part] ?? {};
      return [part, { path: join(modelDir, file), names: { inputs, outputs } }];
    }),
  );
}

async function readVae(manifest: Manifest, modelDir: string, decoderPath: string): Promise<z.infer<typeof vaeSchema>> {
  const named = manifest.files["vae_config"];
  const path = named === undefined ? join(dirname(decoderPath), "config.json") : join(modelDir, named);
  const found = await readJson(path);
  if (found === null && named !== undefined)
    throw new AppError("MODEL_CORRUPT", `${path} (files.vae_config of the manifest) does not exist`);
  const parsed = vaeSchema.safeParse(found ?? FLUX_VAE);
  if (!parsed.success)
    throw new AppError("MODEL_UNSUPPORTED", `${path}: not an autoencoder's configuration: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (thrown) {
    if (isMissing(thrown)) return null;
    throw new AppError("MODEL_CORRUPT", `${path} cannot be read: ${(thrown as Error).message}`, { cause: thrown });
  }
}

/** What the embeddings of a text depend on besides the text: both encoders' files and the lengths. */
export async function textIdentity(config: FluxConfig): Promise<string> {
  const facts = [config.clipLength, config.t5Length].map(String);
  for (const part of ["text_encoder", "text_encoder_2"] as const) {
    const path = config.parts.get(part)?.path ?? "";
    const found = await stat(path).catch(() => null);
    facts.push(`${path}:${found?.size}:${found?.mtimeMs}`);
  }
  return facts.join("|");
}
