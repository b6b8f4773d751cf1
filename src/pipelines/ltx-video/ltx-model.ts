import { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import { SEQUENCE, TextEncoder } from "../diffusion/text-encoder.ts";
import { openT5Tokenizer } from "../diffusion/tokenize.ts";
import { requireSize } from "../graph/graph-edge.ts";
import { withGraphs, type OpenGraphs } from "../graph/open-graphs.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import { chooseH264, type H264Encoder } from "../media/h264-encoder.ts";
import { fileOf } from "../model-folder.ts";
import type { LoadContext } from "../pipeline.ts";
import { readLtxConfig, textIdentity, type LtxConfig } from "./ltx-config.ts";
import { requireOwnDecoder, requireOwnTables } from "./ltx-layout.ts";
import { VideoDecoder } from "./video-decoder.ts";
import { VideoEncoder } from "./video-encoder.ts";
import { VideoPrompts, type TextEmbedding } from "./video-prompts.ts";
import { VideoTransformer } from "./video-transformer.ts";

/** Everything that a loaded LTX-Video model holds. */
export interface LtxModel extends OpenGraphs {
  readonly config: LtxConfig;
  readonly prompts: VideoPrompts;
  readonly transformer: VideoTransformer;
  readonly decoder: VideoDecoder;
  /** Null where the manifest has no img2video. */
  readonly encoder: VideoEncoder | null;
  readonly h264: H264Encoder;
}

/** Opens all parts, small ones first. @throws AppError MODEL_* */
export async function openLtxModel(context: LoadContext): Promise<LtxModel> {
  const { manifest, modelDir, device } = context;
  const config = await readLtxConfig(manifest, modelDir);
  // Without it no clip can be written: that shows now, not after minutes of work.
  findFfmpeg();
  context.stage("load:h264");
  const h264 = await chooseH264(device);
  const tokenizer = await openT5Tokenizer(config.tokenizerDir, config.t5Length);
  return withGraphs(context, config.graphs, async (open, graphs) => {
    const decoder = new VideoDecoder(await open("vae_decoder"));
    await requireOwnDecoder(decoder, fileOf<"ltx-video">(manifest, modelDir, "vae_config"));
    const videoEncoder = manifest.tasks.includes("img2video") ? new VideoEncoder(await open("vae_encoder")) : null;
    const encoder = new TextEncoder(await open("text_encoder"), SEQUENCE, config.t5Length);
    const transformer = new VideoTransformer(await open("transformer"));
    await requireOwnTables(transformer, fileOf<"ltx-video">(manifest, modelDir, "transformer_config"));
    if (typeof encoder.width === "number")
      requireSize(transformer.graph, transformer.sequence, -1, encoder.width, "the width of part text_encoder");
    const prompts = new VideoPrompts({
      encoder,
      tokenizer,
      cache: new EmbeddingCache<TextEmbedding>(context.embeddingCacheBytes),
      type: transformer.sequence.type,
      masked: config.mode === "condition",
      identity: await textIdentity(config),
    });
    return { config, prompts, transformer, decoder, encoder: videoEncoder, h264, ...graphs };
  });
}
