import type { Session } from "../../src/pipelines/backend.ts";
import { MergedDecoder, type DecoderSizes } from "../../src/pipelines/graph/merged-decoder.ts";
import { MODELS } from "./flux-rig.ts";

export interface TinyDecoder {
  readonly slug: string;
  readonly masked: boolean;
  /** `[rows, tokens]` of the encoder's output, and the rows of ids. */
  readonly hidden: readonly [number, number];
  readonly idRows: number;
}

export const TINY_DECODERS: readonly TinyDecoder[] = [
  { slug: "tiny-whisper", masked: false, hidden: [1, 1_500], idRows: 1 },
  { slug: "tiny-musicgen", masked: true, hidden: [2, 7], idRows: 8 },
];

export function decoderPath(slug: string): string {
  return new URL(`${slug}/onnx/decoder_model_merged.onnx`, MODELS).pathname;
}

/** As the graph declares them. */
export function sizesOf({ inputs, outputs }: Session): DecoderSizes {
  const past = inputs.filter(({ name }) => name.endsWith(".decoder.key"));
  const [, heads, , headSize] = past[0]?.dims ?? [];
  const logits = outputs.find(({ name }) => name === "logits");
  return { layers: past.length, heads: Number(heads), headSize: Number(headSize), vocabulary: Number(logits?.dims.at(-1)) };
}

/** A decoder on its session, and an encoder's output of any values for it. */
export function tinyDecoder(session: Session, { slug, masked, hidden }: TinyDecoder) {
  const width = Number(session.inputs.find(({ name }) => name === "encoder_hidden_states")?.dims.at(-1));
  const data = Float32Array.from({ length: hidden[0] * hidden[1] * width }, (_, i) => Math.sin(i));
  return {
    decoder: new MergedDecoder({ part: slug, session, names: { inputs: {}, outputs: {} } }, sizesOf(session), masked),
    hidden: { type: "float32", data, dims: [...hidden, width] } as const,
  };
}
