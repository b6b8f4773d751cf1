import type { LoadContext } from "../pipeline.ts";
import type { Session } from "../backend.ts";
import { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import { readFluxConfig, textIdentity, type FluxConfig, type FluxPart } from "./flux-config.ts";
import type { Graph } from "../graph/graph-edge.ts";
import { PromptEncoder } from "./prompt-encoder.ts";
import { POOLED, SEQUENCE, TextEncoder } from "../diffusion/text-encoder.ts";
import { openClipTokenizer, openT5Tokenizer } from "../diffusion/tokenize.ts";
import { FluxTransformer } from "./transformer.ts";
import { VaeDecoder } from "./vae-decoder.ts";
import { VaeEncoder } from "./vae-encoder.ts";

/** Everything that a loaded Flux model holds. */
export interface FluxModel {
  readonly config: FluxConfig;
  readonly prompts: PromptEncoder;
  readonly transformer: FluxTransformer;
  readonly decoder: VaeDecoder;
  /** Null where the manifest has no img2img. */
  readonly encoder: VaeEncoder | null;
  /** Milliseconds inside native runs so far, all parts together. */
  sessionMs(): number;
  release(): Promise<void>;
}

/** Opens all parts, small ones first: what is wrong with a folder shows before the long load. @throws AppError MODEL_* */
export async function openFluxModel(context: LoadContext): Promise<FluxModel> {
  const config = await readFluxConfig(context.manifest, context.modelDir);
  const [clipTokenizer, t5Tokenizer] = await Promise.all([
    openClipTokenizer(config.tokenizerDir, config.clipLength),
    openT5Tokenizer(config.tokenizer2Dir, config.t5Length),
  ]);
  const sessions: Session[] = [];
  const open = async (part: FluxPart): Promise<Graph> => {
    const { path, names } = config.parts.get(part)!;
    context.stage(`load:${part}`);
    const session = await context.backend.open(path);
    sessions.push(session);
    return { part, session, names };
  };
  const release = async (): Promise<void> => {
    for (const session of sessions) await session.release();
  };
  try {
    const decoder = new VaeDecoder(await open("vae_decoder"), config.latentChannels);
    const encoder = config.parts.has("vae_encoder") ? new VaeEncoder(await open("vae_encoder"), config.latentChannels) : null;
    const clip = new TextEncoder(await open("text_encoder"), POOLED, config.clipLength);
    const t5 = new TextEncoder(await open("text_encoder_2"), SEQUENCE, config.t5Length);
    const transformer = new FluxTransformer(await open("transformer"), config.latentChannels * 4);
    const cache = new EmbeddingCache(context.embeddingCacheBytes);
    const prompts = new PromptEncoder({ clip, clipTokenizer, t5, t5Tokenizer, transformer, cache, identity: await textIdentity(config) });
    const sessionMs = (): number => sessions.reduce((sum, { runMs }) => sum + runMs, 0);
    return { config, prompts, transformer, decoder, encoder, sessionMs, release };
  } catch (thrown) {
    await release();
    throw thrown;
  }
}
