import { AppError } from "../../protocol/error.ts";
import type { EmbeddingCache } from "../diffusion/embedding-cache.ts";
import type { TextEncoder } from "../diffusion/text-encoder.ts";
import type { FixedTokenizer } from "../diffusion/tokenize.ts";
import type { FloatData, FloatType } from "../graph/float-edge.ts";

/** What T5 made of a text, as the transformer takes it. */
export interface TextEmbedding {
  /** `[tokens, width]`. */
  readonly sequence: FloatData;
  readonly width: number;
  /** 1 for tokens of the text and its end, 0 for padding, which the transformer leaves out. */
  readonly mask: Uint8Array;
}

export interface VideoPromptsOptions {
  readonly encoder: TextEncoder;
  readonly tokenizer: FixedTokenizer;
  readonly cache: EmbeddingCache<TextEmbedding>;
  readonly type: FloatType;
  /** LTXConditionPipeline hides the padding from T5 as well; LTXPipeline does not. */
  readonly masked: boolean;
  /** Says which encoder file, length and mask the embeddings come from. */
  readonly identity: string;
}

/** Text -> embedding, through the cache: a prompt that was seen runs no encoder. */
export class VideoPrompts {
  readonly #options: VideoPromptsOptions;

  /** @throws AppError MODEL_UNSUPPORTED for an encoder that cannot leave the padding out where that is wanted */
  constructor(options: VideoPromptsOptions) {
    if (options.masked && !options.encoder.masked) {
      throw new AppError(
        "MODEL_UNSUPPORTED",
        "part text_encoder: the graph has no input attention_mask, which mode condition needs: export it with scripts/export/ltx_graphs.py",
      );
    }
    this.#options = options;
  }

  /** `beforeRun` is awaited before the native run: it readies stage `text` and announces it. A text that is held runs nothing. */
  async encode(text: string, beforeRun: () => Promise<void>): Promise<{ readonly embedding: TextEmbedding; readonly cached: boolean }> {
    const { encoder, tokenizer, cache, type, masked, identity } = this.#options;
    return cache.through(`${identity}\n${text}`, async () => {
      const { ids, used } = tokenizer.encodeCounted(text);
      const mask = Uint8Array.from(ids, (_, i) => (i < used ? 1 : 0));
      await beforeRun();
      const { data, width } = await encoder.encode(ids, type, masked ? [...mask] : undefined);
      return { sequence: data, width, mask };
    });
  }
}
