import type { LoadContext } from "../pipeline.ts";
import { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import { readFluxConfig, textIdentity, type FluxConfig } from "./flux-config.ts";
import { withGraphs, type OpenGraphs } from "../graph/open-graphs.ts";
import { PromptEncoder } from "./prompt-encoder.ts";
import { POOLED, SEQUENCE, TextEncoder } from "../diffusion/text-encoder.ts";
import { openClipTokenizer, openT5Tokenizer } from "../diffusion/tokenize.ts";
import { FluxTransformer } from "./transformer.ts";
import { VaeDecoder } from "./vae-decoder.ts";
import { VaeEncoder } from "./vae-encoder.ts";

/** Everything that a loaded Flux model holds. */
export interface FluxModel extends OpenGraphs {
  readonly config: FluxConfig;
  readonly prompts: PromptEncoder;
  readonly transformer: FluxTransformer;
  readonly decoder: VaeDecoder;
  /** Null where the manifest has no img2img. */
  readonly encoder: VaeEncoder | null;
}

/** Opens all parts, small ones first. @throws AppError MODEL_* */
export async function openFluxModel(context: LoadContext): Promise<FluxModel> {
  const config = await readFluxConfig(context.manifest, context.modelDir);
  const [clipTokenizer, t5Tokenizer] = await Promise.all([
    openClipTokenizer(config.tokenizerDir, config.clipLength),
    openT5Tokenizer(config.tokenizer2Dir, config.t5Length),
  ]);
  return withGraphs(context, config.graphs, async (open, { sessionMs, release }) => {
    const hasInput = context.manifest.tasks.includes("img2img");
    const decoder = new VaeDecoder(await open("vae_decoder"), config.latentChannels);
    const encoder = hasInput ? new VaeEncoder(await open("vae_encoder"), config.latentChannels) : null;
    const clip = new TextEncoder(await open("text_encoder"), POOLED, config.clipLength);
    const t5 = new TextEncoder(await open("text_encoder_2"), SEQUENCE, config.t5Length);
    const transformer = new FluxTransformer(await open("transformer"), config.latentChannels * 4);
    const cache = new EmbeddingCache(context.embeddingCacheBytes);
    const prompts = new PromptEncoder({ clip, clipTokenizer, t5, t5Tokenizer, transformer, cache, identity: await textIdentity(config) });
    return { config, prompts, transformer, decoder, encoder, sessionMs, release };
  });
}
