import { z } from "zod";
import { AppError } from "../../protocol/error.ts";
import { readOptionalJson } from "../model-folder.ts";
import type { VideoDecoder } from "./video-decoder.ts";
import { LATENT_CHANNELS, type VideoTransformer } from "./video-transformer.ts";

const count = z.int().positive();
/** Of diffusers' LTXVideoTransformer3DModel (transformer_ltx.py). */
const transformerSchema = z.object({ num_attention_heads: count, attention_head_dim: count });
/** Of diffusers' AutoencoderKLLTXVideo. */
const vaeSchema = z.object({ latent_channels: count.default(LATENT_CHANNELS), timestep_conditioning: z.boolean().default(false) });

const EXPORT = "export the model with scripts/export/ltx_graphs.py";

/**
 * Whether the rotary tables that the transformer takes are the ones that are made for it (rope.ts): half as wide as its tokens, a value for
 * two neighbours. A graph with full-width tables has the same names and ranks, and would paint wrong frames without an error.
 * @param path the transformer's config.json; where there is none nothing can be compared
 * @throws AppError MODEL_UNSUPPORTED that names both sizes, MODEL_CORRUPT for a file that cannot be read
 */
export async function requireOwnTables({ graph, width }: VideoTransformer, path: string): Promise<void> {
  const config = await readConfig(path, transformerSchema, "an LTX-Video transformer's configuration");
  if (config === null) return;
  const inner = config.num_attention_heads * config.attention_head_dim;
  if (width === inner) return;
  const tables = width / 2;
  const found = tables === inner ? "full-width tables, each angle twice" : `tables of another model`;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part ${graph.part}: rope_cos and rope_sin have ${tables} values a token, and by ${path} its tokens have ${inner}: these are ${found}; expected ${inner / 2}, one value for two neighbours: ${EXPORT}`,
  );
}

/**
 * Whether the decoder is of the model that its config.json describes: one that is conditioned on a timestep takes the noise as an input.
 * @param path as above. @throws AppError as above
 */
export async function requireOwnDecoder(decoder: VideoDecoder, path: string): Promise<void> {
  const config = await readConfig(path, vaeSchema, "an LTX-Video autoencoder's configuration");
  if (config === null) return;
  if (config.latent_channels !== LATENT_CHANNELS)
    throw new AppError("MODEL_UNSUPPORTED", `${path}: latent_channels is ${config.latent_channels}, expected ${LATENT_CHANNELS}`);
  if (config.timestep_conditioning === decoder.conditioned) return;
  const [says, takes] = config.timestep_conditioning ? ["true", "no noise"] : ["false", "noise"];
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part vae_decoder takes ${takes}, and timestep_conditioning is ${says} in ${path}: the graph is of another model, or mixes its noise in by itself; ${EXPORT}`,
  );
}

async function readConfig<T extends z.ZodType>(path: string, schema: T, what: string): Promise<z.infer<T> | null> {
  const value = await readOptionalJson(path);
  if (value === undefined) return null;
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new AppError("MODEL_UNSUPPORTED", `${path}: not ${what}: ${z.prettifyError(parsed.error)}`);
}
