import { z } from "zod";
import { splitSentences } from "./sentences.ts";
import { runFor } from "../graph/bound-run.ts";
import { asFloat32 } from "../graph/float-edge.ts";
import { bindInput, bindOptionalInput, bindOutput, FLOATS, idTensor, requireOnly } from "../graph/graph-edge.ts";
import { withGraphs } from "../graph/open-graphs.ts";
import { fileOf, graphFiles, readModelJson, readOptions } from "../model-folder.ts";
import type { LoadContext, PipelineFactory } from "../pipeline.ts";
import { nothingToSpeak } from "./speech-job.ts";
import { speechPipeline, type SpeechModel } from "./speech-pipeline.ts";
import { openVitsTokenizer } from "./vits-tokenizer.ts";

const optionsSchema = z.strictObject({
  /** Longest sentence in characters; longer ones are split. The graph's memory grows with it. */
  max_sentence_chars: z.int().min(10).max(2_000).default(300),
  pause_ms: z.int().min(0).max(5_000).default(150),
});
const configSchema = z.object({ sampling_rate: z.int().positive() });

/**
 * VITS (MMS) in the Optimum layout: model.onnx (`input_ids`, `attention_mask` -> `waveform` [1, samples]), vocab.json,
 * tokenizer_config.json, config.json. The graph's speed is fixed in it. @throws AppError MODEL_* | MANIFEST_INVALID
 */
export const createVitsPipeline: PipelineFactory = speechPipeline(openVitsModel);

async function openVitsModel(context: LoadContext): Promise<SpeechModel> {
  const { manifest, modelDir } = context;
  const options = readOptions(manifest, optionsSchema);
  const tokenizer = await openVitsTokenizer(fileOf<"vits">(manifest, modelDir, "tokenizer"));
  const { sampling_rate: sampleRate } = await readModelJson(
    fileOf<"vits">(manifest, modelDir, "config"),
    configSchema,
    "a VITS configuration",
  );
  return withGraphs(context, await graphFiles(manifest, modelDir, "vits"), async (open, graphs) => {
    const graph = await open("model");
    const ids = bindInput(graph, { role: "input_ids", types: ["int64", "int32"], ranks: [2] });
    const mask = bindOptionalInput(graph, { role: "attention_mask", types: ["int64", "int32"], ranks: [2] });
    requireOnly(graph, [ids, mask]);
    const waveform = bindOutput(graph, { role: "waveform", types: FLOATS, ranks: [2, 3] });
    const speak = async (tokens: readonly number[]): Promise<Float32Array> => {
      const dims = [1, tokens.length];
      const ones = tokens.map(() => 1);
      const feeds = {
        [ids.name]: idTensor(ids.type, tokens, dims),
        ...(mask !== null && { [mask.name]: idTensor(mask.type, ones, dims) }),
      };
      return asFloat32(await runFor(graph, feeds, waveform, null));
    };
    return {
      sampleRate,
      ownSpeed: false,
      pauseMs: options.pause_ms,
      prepare: async ({ text, lang }, begin) => {
        begin();
        const sentences = splitSentences(text, { maxChars: options.max_sentence_chars, lang });
        const spoken = sentences.map((sentence) => tokenizer.encode(sentence)).filter((tokens) => tokens.length > 0);
        if (spoken.length > 0) return spoken.map((tokens) => () => speak(tokens));
        throw nothingToSpeak(`model ${manifest.slug}`, text);
      },
      probe: () => speak([0, 1, 0]),
      ...graphs,
    };
  });
}
