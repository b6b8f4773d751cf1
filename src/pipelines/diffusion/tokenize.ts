import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as tokenizers from "@huggingface/tokenizers";
import { z } from "zod";
import { isMissing } from "../../lib/errno.ts";
import { AppError } from "../../protocol/error.ts";
import { clipTokenizerJson } from "./clip-tokenizer.ts";
import { PrecompiledCharsmap } from "./precompiled-charsmap.ts";

/** A text as exactly `length` ids: cut so that it still ends in the end token, or filled up with the padding token. */
export interface FixedTokenizer {
  readonly length: number;
  encode(text: string): readonly number[];
  /** The same, with how many of the ids are of the text and its end token. */
  encodeCounted(text: string): { readonly ids: readonly number[]; readonly used: number };
}

/** Special tokens are written as a text or as an object with the text in it. */
const token = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]).nullish();
const specialTokens = z.object({ bos_token: token, eos_token: token, pad_token: token });
type SpecialTokens = z.infer<typeof specialTokens>;

/**
 * Opens the CLIP tokenizer of a Flux folder: tokenizer.json where there is one, else vocab.json and merges.txt.
 * @throws AppError MODEL_UNSUPPORTED | MODEL_CORRUPT naming the file
 */
export async function openClipTokenizer(dir: string, length: number): Promise<FixedTokenizer> {
  const special = await readSpecialTokens(dir);
  const eosToken = special.eos_token ?? "<|endoftext|>";
  const ready = await readOptional(join(dir, "tokenizer.json"));
  const json =
    ready === null ? await buildClip(dir, special.bos_token ?? "<|startoftext|>", eosToken) : parseJson(ready, join(dir, "tokenizer.json"));
  return fixed({ dir, json, length, eosToken, padToken: special.pad_token ?? eosToken });
}

/**
 * Opens the T5 tokenizer of a Flux folder, which must be a tokenizer.json.
 * @throws AppError MODEL_UNSUPPORTED | MODEL_CORRUPT naming the file
 */
export async function openT5Tokenizer(dir: string, length: number): Promise<FixedTokenizer> {
  const path = join(dir, "tokenizer.json");
  const ready = await readOptional(path);
  if (ready === null) {
    const advice = "make it with transformers: T5TokenizerFast.from_pretrained(folder).save_pretrained(folder)";
    const found =
      (await readOptional(join(dir, "spiece.model"))) === null
        ? "does not exist"
        : "does not exist, and spiece.model alone is not supported";
    throw new AppError("MODEL_UNSUPPORTED", `${path} ${found}: ${advice}`);
  }
  const special = await readSpecialTokens(dir);
  return fixed({
    dir,
    json: parseJson(ready, path),
    length,
    eosToken: special.eos_token ?? "</s>",
    padToken: special.pad_token ?? "<pad>",
  });
}

/** What is used of the library, whose own declarations do not resolve under `nodenext` (imports without extension). */
interface PlainTokenizer {
  encode(text: string): { readonly ids: number[] };
  token_to_id(token: string): number | undefined;
}
const { Tokenizer } = tokenizers as unknown as { readonly Tokenizer: new (json: object, config: object) => PlainTokenizer };

interface FixedOptions {
  readonly dir: string;
  readonly json: object;
  readonly length: number;
  readonly eosToken: string;
  readonly padToken: string;
}

function fixed({ dir, json, length, eosToken, padToken }: FixedOptions): FixedTokenizer {
  const { tokenizer, normalize } = buildTokenizer(dir, json);
  const idOf = (name: string): number => {
    const id = tokenizer.token_to_id(name);
    if (id === undefined) throw new AppError("MODEL_CORRUPT", `${dir}: the tokenizer's vocabulary lacks its special token ${name}`);
    return id;
  };
  const eos = idOf(eosToken);
  const pad = idOf(padToken);
  const encodeCounted: FixedTokenizer["encodeCounted"] = (text) => {
    const { ids } = tokenizer.encode(normalize(text));
    if (ids.length > length) return { ids: [...ids.slice(0, length - 1), eos], used: length };
    return { ids: [...ids, ...Array.from({ length: length - ids.length }, () => pad)], used: ids.length };
  };
  return { length, encode: (text) => encodeCounted(text).ids, encodeCounted };
}

/** A leading `Precompiled` normaliser is taken out and done by ours. */
const withCharsmap = z.looseObject({ type: z.literal("Precompiled"), precompiled_charsmap: z.string().min(1) });
const withSequence = z.looseObject({ type: z.literal("Sequence"), normalizers: z.tuple([withCharsmap], z.unknown()) });

function buildTokenizer(dir: string, json: object): { readonly tokenizer: PlainTokenizer; readonly normalize: (text: string) => string } {
  try {
    const { normalizer } = json as { readonly normalizer?: unknown };
    const alone = withCharsmap.safeParse(normalizer).data;
    const sequence = withSequence.safeParse(normalizer).data;
    const found = alone ?? sequence?.normalizers[0];
    if (found === undefined) return { tokenizer: new Tokenizer(json, {}), normalize: (text) => text };
    const charsmap = new PrecompiledCharsmap(found.precompiled_charsmap);
    const rest = sequence === undefined ? null : { ...sequence, normalizers: sequence.normalizers.slice(1) };
    return { tokenizer: new Tokenizer({ ...json, normalizer: rest }, {}), normalize: (text) => charsmap.normalize(text) };
  } catch (thrown) {
    throw new AppError("MODEL_UNSUPPORTED", `${dir}: the tokenizer cannot be built: ${(thrown as Error).message}`, { cause: thrown });
  }
}

async function buildClip(dir: string, bosToken: string, eosToken: string): Promise<object> {
  const vocabPath = join(dir, "vocab.json");
  const mergesPath = join(dir, "merges.txt");
  const [vocab, merges] = await Promise.all([readOptional(vocabPath), readOptional(mergesPath)]);
  if (vocab === null || merges === null) {
    throw new AppError(
      "MODEL_CORRUPT",
      `${vocab === null ? vocabPath : mergesPath} does not exist; expected tokenizer.json, or vocab.json with merges.txt`,
    );
  }
  const parsed = z.record(z.string(), z.int()).safeParse(parseJson(vocab, vocabPath));
  if (!parsed.success) throw new AppError("MODEL_CORRUPT", `${vocabPath} is no vocabulary: expected an object of token: id`);
  try {
    return clipTokenizerJson({ vocab: parsed.data, merges, bosToken, eosToken });
  } catch (thrown) {
    throw new AppError("MODEL_CORRUPT", `${vocabPath}: ${(thrown as Error).message}`, { cause: thrown });
  }
}

/** tokenizer_config.json first, then special_tokens_map.json; a folder may lack either. */
async function readSpecialTokens(dir: string): Promise<SpecialTokens> {
  const [map, config] = await Promise.all(
    ["special_tokens_map.json", "tokenizer_config.json"].map((name) => readSpecialFile(join(dir, name))),
  );
  return { ...map, ...config };
}

async function readSpecialFile(path: string): Promise<SpecialTokens> {
  const text = await readOptional(path);
  if (text === null) return {};
  const parsed = specialTokens.safeParse(parseJson(text, path));
  if (!parsed.success) throw new AppError("MODEL_CORRUPT", `${path}: ${z.prettifyError(parsed.error)}`);
  return Object.fromEntries(Object.entries(parsed.data).filter(([, value]) => value !== null && value !== undefined));
}

async function readOptional(path: string): Promise<string | null> {
  return readFile(path, "utf8").catch((thrown: unknown) => {
    if (isMissing(thrown)) return null;
    throw new AppError("MODEL_CORRUPT", `${path} cannot be read: ${(thrown as Error).message}`, { cause: thrown });
  });
}

function parseJson(text: string, path: string): object {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value;
    throw new SyntaxError("expected an object");
  } catch (thrown) {
    throw new AppError("MODEL_CORRUPT", `${path} is no JSON: ${(thrown as Error).message}`, { cause: thrown });
  }
}
