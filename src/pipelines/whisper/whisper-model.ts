import { MergedDecoder } from "../graph/merged-decoder.ts";
import { withGraphs, type OpenGraphs } from "../graph/open-graphs.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import type { LoadContext } from "../pipeline.ts";
import { AudioEncoder } from "./audio-encoder.ts";
import { readWhisperConfig, type WhisperConfig } from "./whisper-config.ts";
import { openWhisperTokenizer, type TextDecoding } from "./whisper-tokenizer.ts";

/** Everything that a loaded Whisper model holds. */
export interface WhisperModel extends OpenGraphs {
  readonly config: WhisperConfig;
  readonly encoder: AudioEncoder;
  readonly decoder: MergedDecoder;
  readonly tokenizer: TextDecoding;
}

/** Opens both parts; what is wrong with the folder shows before the long load. @throws AppError MODEL_* | MANIFEST_INVALID */
export async function openWhisperModel(context: LoadContext): Promise<WhisperModel> {
  // Without it no audio can be read: that shows now, not in the first job.
  findFfmpeg();
  const config = await readWhisperConfig(context.manifest, context.modelDir);
  const tokenizer = await openWhisperTokenizer(config.tokenizerPath, config.rules.end);
  return withGraphs(context, config.graphs, async (open, graphs) => {
    const encoder = new AudioEncoder(await open("encoder"), config.melBins);
    const decoder = new MergedDecoder(await open("decoder"), config.decoder, false);
    return { config, encoder, decoder, tokenizer, ...graphs };
  });
}
