import { AppError } from "../../protocol/error.ts";
import type { EmbeddingCache, PromptEmbedding } from "../diffusion/embedding-cache.ts";
import type { FloatType } from "../graph/float-edge.ts";
import type { TextEncoder } from "../diffusion/text-encoder.ts";
import type { FixedTokenizer } from "../diffusion/tokenize.ts";
import type { FluxTransformer } from "./transformer.ts";

export interface PromptEncoderParts {
  readonly clip: TextEncoder;
  readonly clipTokenizer: FixedTokenizer;
  readonly t5: TextEncoder;
  readonly t5Tokenizer: FixedTokenizer;
  readonly transformer: FluxTransformer;
  readonly cache: EmbeddingCache;
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

  get cache(): EmbeddingCache {
    return this.#parts.cache;
  }

  /** `beforeRun` is awaited before each native run (a stage to announce). @throws AppError of the runs */
  async encode(text: string, beforeRun: () => Promise<void>): Promise<{ readonly embedding: PromptEmbedding; readonly cached: boolean }> {
    const { clip, clipTokenizer, t5, t5Tokenizer, cache, identity } = this.#parts;
    const key = `${identity}\n${text}`;
    const held = cache.get(key);
    if (held !== null) return { embedding: held, cached: true };
    await beforeRun();
    const pooled = await clip.encode(clipTokenizer.encode(text), this.#pooledType);
    await beforeRun();
    const sequence = await t5.encode(t5Tokenizer.encode(text), this.#sequenceType);
    const embedding = { sequence: sequence.data, sequenceShape: [t5Tokenizer.length, sequence.width], pooled: pooled.data } as const;
    cache.set(key, embedding);
    return { embedding, cached: false };
  }
}

function requireWidth(part: string, width: number | string | undefined, input: string, expected: number | string | undefined): void {
  if (typeof width !== "number" || typeof expected !== "number" || width === expected) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `part ${part}: it gives ${width} values, but ${input} of part transformer takes ${expected}: the parts are of different models`,
  );
}
