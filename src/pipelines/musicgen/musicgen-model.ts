import { z } from "zod";
import { asFloat32, floatTensor } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, idTensor, outputOf, requireOnly, type Graph } from "../graph/graph-edge.ts";
import { withGraphs, type OpenGraphs } from "../graph/open-graphs.ts";
import { findFfmpeg } from "../media/ffmpeg.ts";
import { fileOf, graphFiles, readOptions } from "../model-folder.ts";
import { SEQUENCE, TextEncoder } from "../diffusion/text-encoder.ts";
import { openT5Tokenizer } from "../diffusion/tokenize.ts";
import type { LoadContext } from "../pipeline.ts";
import { CodeDecoder } from "./code-decoder.ts";
import { readMusicgenConfig, type MusicgenConfig } from "./musicgen-config.ts";
import type { Sampling } from "./pick-code.ts";

const optionsSchema = z.strictObject({
  /** AudioCraft's own 250; 1 always takes the best code. */
  top_k: z.int().min(1).default(250),
  temperature: z.number().positive().default(1),
  /** Tokens of a caption; what is beyond is cut off. */
  text_length: z.int().min(2).max(512).default(256),
});

/** T5's; only ever at the end of a text. */
const TEXT_PAD = 0;

export interface MusicgenModel extends OpenGraphs {
  readonly config: MusicgenConfig;
  readonly sampling: Sampling;
  readonly decoder: CodeDecoder;
  /** Hidden states `[1, tokens, size]` of a caption. */
  encodeText(caption: string): Promise<ReturnType<typeof floatTensor>>;
  /** Mono samples of `[books][frames]` codes. */
  decodeCodes(codes: readonly (readonly number[])[]): Promise<Float32Array>;
}

/** Opens all parts, small ones first. @throws AppError MODEL_* | MANIFEST_INVALID */
export async function openMusicgenModel(context: LoadContext): Promise<MusicgenModel> {
  const { manifest, modelDir } = context;
  // Without it no file can be written: that shows now, not after the work.
  findFfmpeg();
  const { text_length: textLength, top_k: topK, temperature } = readOptions(manifest, optionsSchema);
  const config = await readMusicgenConfig(fileOf<"musicgen">(manifest, modelDir, "config"));
  const tokenizer = await openT5Tokenizer(fileOf<"musicgen">(manifest, modelDir, "tokenizer"), textLength);
  return withGraphs(context, await graphFiles(manifest, modelDir, "musicgen"), async (open, graphs) => {
    const decodeCodes = codecOf(await open("encodec_decode"));
    const text = new TextEncoder(await open("text_encoder"), SEQUENCE, textLength);
    const decoder = new CodeDecoder(await open("decoder_model_merged"), config);
    const encodeText: MusicgenModel["encodeText"] = async (caption) => {
      const ids = tokenizer.encode(caption);
      const tokens = ids.slice(0, ids.findLastIndex((id) => id !== TEXT_PAD) + 1);
      const { data, width } = await text.encode(tokens, "float32");
      return floatTensor("float32", data, [1, tokens.length, width]);
    };
    return { config, sampling: { topK, temperature }, decoder, encodeText, decodeCodes, ...graphs };
  });
}

/** EnCodec's decoder: `audio_codes` [1, 1, books, frames] -> `audio_values` [1, 1, samples]. */
function codecOf(graph: Graph): MusicgenModel["decodeCodes"] {
  const codesEdge = bindInput(graph, { role: "audio_codes", types: ["int64", "int32"], ranks: [4] });
  requireOnly(graph, [codesEdge]);
  const values = bindOutput(graph, { role: "audio_values", types: FLOATS, ranks: [3] });
  return async (codes) => {
    const dims = [1, 1, codes.length, codes[0]?.length ?? 0];
    const results = await graph.session.run({ [codesEdge.name]: idTensor(codesEdge.type, codes.flat(), dims) });
    return asFloat32(outputOf(results, values, graph.part));
  };
}
