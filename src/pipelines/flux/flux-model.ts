import { AppError } from "../../protocol/error.ts";
import { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import { FLUX_LATENT_RGB } from "../diffusion/latent-rgb.ts";
import type { PictureModel } from "../diffusion/picture-model.ts";
import { POOLED, SEQUENCE, TextEncoder } from "../diffusion/text-encoder.ts";
import { openClipTokenizer, openT5Tokenizer } from "../diffusion/tokenize.ts";
import { VaeDecoder } from "../diffusion/vae-decoder.ts";
import { VaeEncoder } from "../diffusion/vae-encoder.ts";
import { withGraphs } from "../graph/open-graphs.ts";
import type { LoadContext } from "../pipeline.ts";
import { readFluxConfig, textIdentity } from "./flux-config.ts";
import { PromptEncoder, type PromptEmbedding } from "./prompt-encoder.ts";
import { FluxTransformer } from "./transformer.ts";
import { TransformerRun } from "./transformer-run.ts";

/** Opens all parts, small ones first. @throws AppError MODEL_* | MANIFEST_INVALID */
export async function openFluxModel(context: LoadContext): Promise<PictureModel<PromptEmbedding>> {
  const config = await readFluxConfig(context.manifest, context.modelDir);
  const { latents, schedule } = config;
  const [clipTokenizer, t5Tokenizer] = await Promise.all([
    openClipTokenizer(config.tokenizerDir, config.clipLength),
    openT5Tokenizer(config.tokenizer2Dir, config.t5Length),
  ]);
  return withGraphs(context, config.graphs, async (open, graphs) => {
    const hasInput = context.manifest.tasks.includes("img2img");
    const decoder = new VaeDecoder(await open("vae_decoder"), latents);
    const encoder = hasInput ? new VaeEncoder(await open("vae_encoder"), latents) : null;
    const clip = new TextEncoder(await open("text_encoder"), POOLED, config.clipLength);
    const t5 = new TextEncoder(await open("text_encoder_2"), SEQUENCE, config.t5Length);
    const transformer = new FluxTransformer(await open("transformer"), latents.channels * 4);
    if (transformer.guidance === null && context.manifest.features["supports_guidance"] === true)
      throw new AppError(
        "MANIFEST_INVALID",
        `model ${context.manifest.slug}: features.supports_guidance is true, and its transformer has no input for guidance: set it to false`,
      );
    const cache = new EmbeddingCache<PromptEmbedding>(context.embeddingCacheBytes);
    const prompts = new PromptEncoder({ clip, clipTokenizer, t5, t5Tokenizer, transformer, cache, identity: await textIdentity(config) });
    return {
      schedule,
      latents: { ...latents, rgb: FLUX_LATENT_RGB },
      hasGuidance: transformer.guidance !== null,
      decoder,
      encoder,
      encodeText: (text, beforeRun) => prompts.encode(text, beforeRun),
      openRun: (shape, texts, guidance) => new TransformerRun(transformer, shape, texts, guidance),
      ...graphs,
    };
  });
}
