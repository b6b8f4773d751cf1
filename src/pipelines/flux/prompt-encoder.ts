import { AppError } from "../../protocol/error.ts";
import type { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import type { FloatData, FloatType } from "../graph/float-edge.ts";
import type { TextEncoder } from "../diffusion/text-encoder.ts";
import type { FixedTokenizer } from "../diffusion/tokenize.ts";
import type { FluxTransformer } from "./transformer.ts";

/** What both text encoders made of a prompt, as bytes of the type that the transformer takes. */
export interface PromptEmbedding {
  /** T5, `[tokens, width]`. */
  readonly sequence: FloatData;
  readonly sequenceShape: readonly [tokens: number, width: number];
  /** CLIP, `[width]`. */
  readonly pooled: FloatData;
}

export interface PromptEncoderParts {
  readonly clip: TextEncoder;
  readonly clipTokenizer: FixedTokenizer;
  readonly t5: TextEncoder;
  readonly t5Tokenizer: FixedTokenizer;
  readonly transformer: FluxTransformer;
  readonly cache: EmbeddingCache<PromptEmbedding>;
  /** Says which encoder files and lengths the embeddings come from. */
  readonly identity: string;
}

/** Text -> what the transformer takes of it, through the cache: a prompt that was seen runs no encoder. */
export class PromptEncoder {
  readonly #parts: PromptEncoderParts;
  readonly #pooledType: FloatType;
  readonly #sequenceType: FloatType;

  /** @throws AppError MODEL_UNSUPPORTED when an encoder's width is not what the transformer takes */
  constructor(parts: PromptEncoderParts) {
    const { clip, t5, transformer } = parts;
    requireWidth("text_encoder", clip.width, "pooled_projections", transformer.pooled.dims.at(-1));
    requireWidth("text_encoder_2", t5.width, "encoder_hidden_states", transformer.sequence.dims.at(-1));
    this.#parts = parts;
    this.#pooledType = transformer.pooled.type;
    this.#sequenceType = transformer.sequence.type;
  }

  /** `beforeRun` is awaited before each native run (PictureModel). @throws AppError of the runs */
  async encode(text: string, beforeRun: () => Promise<void>): Promise<{ readonly embedding: PromptEmbedding; readonly cached: boolean }> {
    const { clip, clipTokenizer, t5, t5Tokenizer, cache, identity } = this.#parts;
    return cache.through(`${identity}\n${text}`, async () => {
      await beforeRun();
      const pooled = await clip.encode(clipTokenizer.encode(text), this.#pooledType);
      await beforeRun();
      const sequence = await t5.encode(t5Tokenizer.encode(text), this.#sequenceType);
      return { sequence: sequence.data, sequenceShape: [t5Tokenizer.length, sequence.width], pooled: pooled.data };
    });
  }
}

function requireWidth(part: string, width: number | string | undefined, input: string, expected: number | string | undefined): void {
  if (typeof width !== "number" || typeof expected !== "number" || width === expected) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part ${part}: it gives ${width} values, but ${input} of part transformer takes ${expected}: the parts are of different models`,
  );
}
