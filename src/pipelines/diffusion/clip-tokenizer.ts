/**
 * A CLIP tokenizer as the JSON that `@huggingface/tokenizers` takes, from the vocab.json and merges.txt that Flux repositories ship
 * (they hold no tokenizer.json). Same parts as transformers' `CLIPTokenizerFast`; it differs from the slow tokenizer with ftfy only on
 * curly quotes and ligatures. Source: transformers convert_slow_tokenizer.py, CLIPConverter.
 */
export interface ClipSource {
  readonly vocab: Readonly<Record<string, number>>;
  /** Content of merges.txt: a version line, then one pair a line. */
  readonly merges: string;
  readonly bosToken: string;
  readonly eosToken: string;
}

const WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;

/** @throws RangeError when the vocabulary lacks the begin or the end token */
export function clipTokenizerJson({ vocab, merges, bosToken, eosToken }: ClipSource): object {
  const pairOf = (token: string): readonly [string, number] => {
    const id = vocab[token];
    if (id === undefined) throw new RangeError(`the vocabulary lacks ${token}`);
    return [token, id];
  };
  const special = (token: string): object => {
    const [content, id] = pairOf(token);
    return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  };
  return {
    version: "1.0",
    added_tokens: [special(bosToken), special(eosToken)],
    normalizer: {
      type: "Sequence",
      normalizers: [{ type: "NFC" }, { type: "Replace", pattern: { Regex: String.raw`\s+` }, content: " " }, { type: "Lowercase" }],
    },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: WORDS }, behavior: "Removed", invert: true },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: {
      type: "RobertaProcessing",
      sep: pairOf(eosToken),
      cls: pairOf(bosToken),
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true },
    model: {
      type: "BPE",
      unk_token: eosToken,
      continuing_subword_prefix: "",
      end_of_word_suffix: "</w>",
      fuse_unk: false,
      vocab,
      merges: merges.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#version")),
    },
  };
}
