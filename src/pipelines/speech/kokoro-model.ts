import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { splitSentences } from "./sentences.ts";
import { AppError } from "../../protocol/error.ts";
import type { Manifest } from "../../protocol/manifest.ts";
import { runFor } from "../graph/bound-run.ts";
import { asFloat32, floatTensor, toFloatData } from "../graph/float-edge.ts";
import { bindInput, bindOutput, FLOATS, idTensor, requireOnly, type Graph } from "../graph/graph-edge.ts";
import { withGraphs } from "../graph/open-graphs.ts";
import { fileOf, graphFiles, readModelJson, readOptions } from "../model-folder.ts";
import type { LoadContext, PipelineFactory } from "../pipeline.ts";
import { findEspeak, phonemize } from "./espeak.ts";
import { kokoroPhonemes, splitIds } from "./kokoro-phonemes.ts";
import { nothingToSpeak } from "./speech-job.ts";
import { speechPipeline, type SpeechModel } from "./speech-pipeline.ts";

const optionsSchema = z.strictObject({
  sample_rate: z.int().positive().default(24_000),
  max_sentence_chars: z.int().min(10).max(2_000).default(400),
  pause_ms: z.int().min(0).max(5_000).default(0),
});
const tokenizerSchema = z.object({ model: z.object({ vocab: z.record(z.string(), z.int().nonnegative()) }) });

/** Phonemes a run, without the pad at either end: Albert has 512 positions. */
const MAX_PHONEMES = 510;
const STYLE_SIZE = 256;
const PAD = 0;

/**
 * Kokoro in the layout of onnx-community/Kokoro-82M-v1.0-ONNX: onnx/model.onnx (`input_ids` [1, T], `style` [1, 256], `speed` [1] ->
 * `waveform`), tokenizer.json (a phoneme is a token), voices/<voice>.bin (rows of 256 float32, one per length). Phonemes by espeak-ng.
 * @throws AppError MODEL_* | MANIFEST_INVALID
 */
export const createKokoroPipeline: PipelineFactory = speechPipeline(openKokoroModel);

async function openKokoroModel(context: LoadContext): Promise<SpeechModel> {
  const { manifest, modelDir } = context;
  const espeak = findEspeak();
  const options = readOptions(manifest, optionsSchema);
  const vocabulary = await readVocabulary(fileOf<"kokoro">(manifest, modelDir, "tokenizer"));
  const voices = await readVoices(manifest, fileOf<"kokoro">(manifest, modelDir, "voices"));
  return withGraphs(context, await graphFiles(manifest, modelDir, "kokoro"), async (open, graphs) => {
    const speak = runnerOf(await open("model"));
    const idsOf = (phonemes: string): readonly number[] => Array.from(phonemes).flatMap((phoneme) => vocabulary.get(phoneme) ?? []);
    return {
      sampleRate: options.sample_rate,
      ownSpeed: true,
      pauseMs: options.pause_ms,
      prepare: async ({ text, lang, voice, speed }, begin) => {
        const styles = voices.get(voice);
        if (styles === undefined) throw new AppError("INTERNAL", `voice ${voice} was checked and is not loaded; this is a bug`);
        const runs: (readonly number[])[] = [];
        for (const sentence of splitSentences(text, { maxChars: options.max_sentence_chars, lang })) {
          begin();
          const phonemes = await kokoroPhonemes(sentence, lang, (words) => phonemize(espeak, words, lang));
          const ids = idsOf(phonemes);
          // Punctuation alone is no speech.
          if (/\p{L}/u.test(phonemes)) runs.push(...splitIds(ids, MAX_PHONEMES, vocabulary.get(" ") ?? -1));
        }
        if (runs.length === 0) throw nothingToSpeak(`language ${lang}`, text);
        return runs.map((ids) => () => speak(ids, styleOf(styles, ids.length), speed));
      },
      probe: () => speak([vocabulary.get("a") ?? 1], new Float32Array(STYLE_SIZE), 1),
      ...graphs,
    };
  });
}

type Speak = (ids: readonly number[], style: Float32Array, speed: number) => Promise<Float32Array>;

function runnerOf(graph: Graph): Speak {
  const ids = bindInput(graph, { role: "input_ids", types: ["int64", "int32"], ranks: [2] });
  const style = bindInput(graph, { role: "style", types: FLOATS, ranks: [2] });
  const speed = bindInput(graph, { role: "speed", types: FLOATS, ranks: [0, 1] });
  requireOnly(graph, [ids, style, speed]);
  const waveform = bindOutput(graph, { role: "waveform", types: FLOATS, ranks: [1, 2, 3] });
  return async (phonemes, row, rate) => {
    const padded = [PAD, ...phonemes, PAD];
    const feeds = {
      [ids.name]: idTensor(ids.type, padded, [1, padded.length]),
      [style.name]: floatTensor(style.type, toFloatData(row, style.type), [1, STYLE_SIZE]),
      [speed.name]: floatTensor(speed.type, toFloatData(Float32Array.of(rate), speed.type), speed.dims.length === 0 ? [] : [1]),
    };
    return asFloat32(await runFor(graph, feeds, waveform, null));
  };
}

/** A voice has a row for every number of phonemes; longer runs take the last. Source: kokoro.js. */
function styleOf(styles: Float32Array, phonemes: number): Float32Array {
  const row = Math.min(phonemes, styles.length / STYLE_SIZE - 1);
  return styles.subarray(row * STYLE_SIZE, (row + 1) * STYLE_SIZE);
}

async function readVocabulary(path: string): Promise<ReadonlyMap<string, number>> {
  return new Map(Object.entries((await readModelJson(path, tokenizerSchema, "a tokenizer of phonemes")).model.vocab));
}

async function readVoices({ languages, slug }: Manifest, dir: string): Promise<ReadonlyMap<string, Float32Array>> {
  if (languages === undefined) throw new AppError("MANIFEST_INVALID", `model ${slug}: the manifest names no languages and voices`);
  const voices = new Map<string, Float32Array>();
  for (const voice of new Set(languages.flatMap((language) => language.voices.map((each) => each.slug)))) {
    const path = join(dir, `${voice}.bin`);
    const bytes = await readFile(path).catch((cause: unknown) => {
      throw new AppError("MODEL_CORRUPT", `${path} (a voice of the manifest) cannot be read: ${(cause as Error).message}`, { cause });
    });
    if (bytes.length === 0 || bytes.length % (STYLE_SIZE * 4) !== 0)
      throw new AppError("MODEL_CORRUPT", `${path} has ${bytes.length} bytes, expected rows of ${STYLE_SIZE * 4}`);
    voices.set(voice, new Float32Array(Uint8Array.from(bytes).buffer));
  }
  return voices;
}
