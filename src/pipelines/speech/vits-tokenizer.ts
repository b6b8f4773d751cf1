import { join } from "node:path";
import { z } from "zod";
import { AppError } from "../../protocol/error.ts";
import { readModelJson } from "../model-folder.ts";

const vocabularySchema = z.record(z.string(), z.int().nonnegative());
const configSchema = z.object({
  /** Not looked at: without it the file is something else. */
  tokenizer_class: z.string(),
  add_blank: z.boolean().default(true),
  normalize: z.boolean().default(true),
  phonemize: z.boolean().default(false),
  is_uroman: z.boolean().default(false),
  language: z.string().nullish(),
  added_tokens_decoder: z.record(z.string(), z.object({ content: z.string().min(1) })).default({}),
});

/** Characters as ids. */
export interface CharacterTokenizer {
  /** Empty when the text has no character that the model knows. */
  encode(text: string): readonly number[];
}

/**
 * transformers' VitsTokenizer for models of characters (MMS): lower case, unknown characters dropped, a blank (id 0) between all.
 * Source: transformers tokenization_vits.py and the splitting at added tokens of its base class.
 * @throws AppError MODEL_CORRUPT | MODEL_UNSUPPORTED naming the file
 */
export async function openVitsTokenizer(dir: string): Promise<CharacterTokenizer> {
  const vocabulary = await readModelJson(join(dir, "vocab.json"), vocabularySchema, "a VITS tokenizer");
  const path = join(dir, "tokenizer_config.json");
  const config = await readModelJson(path, configSchema, "a VITS tokenizer");
  if (config.phonemize || config.is_uroman) {
    const what = config.phonemize ? "phonemes" : "a romanizer (uroman)";
    throw new AppError("MODEL_UNSUPPORTED", `${path}: the tokenizer needs ${what}; only models of plain characters are supported`);
  }
  const ids = new Map(Object.entries(vocabulary));
  const added = new Map(Object.entries(config.added_tokens_decoder).map(([id, { content }]) => [content, Number(id)]));
  const words = [...ids.keys(), ...added.keys()].filter((word) => codePoints(word).length > 1);
  const splitter = new RegExp(`(${[...added.keys()].map(escaped).join("|")})`);
  const normalized = (text: string): string =>
    codePoints(lowered(text, ids, words))
      .filter((character) => ids.has(character))
      .join("")
      .trim();
  const interspersed = (part: string): number[] => {
    const own = codePoints(part).map((character) => ids.get(character) ?? 0);
    return config.add_blank ? [0, ...own.flatMap((id) => [id, 0])] : own;
  };
  return {
    encode: (text) => {
      const read = config.language === "ron" ? text.replaceAll("ț", "ţ") : text;
      const plain = config.normalize ? normalized(read) : read;
      // Between added tokens (the padding token is one, and a letter in MMS) each part has blanks of its own.
      const parts = added.size === 0 ? [plain] : plain.split(splitter);
      return parts.filter((part) => part !== "").flatMap((part) => (added.has(part) ? [added.get(part) ?? 0] : interspersed(part)));
    },
  };
}

/** As Python counts characters. */
function codePoints(text: string): readonly string[] {
  return Array.from(text);
}

function escaped(literal: string): string {
  return literal.replaceAll(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}

/** Lower case, but for what the vocabulary has as it stands. */
function lowered(text: string, ids: ReadonlyMap<string, number>, words: readonly string[]): string {
  let made = "";
  for (let at = 0; at < text.length;) {
    const character = String.fromCodePoint(text.codePointAt(at) ?? 0);
    const found = ids.has(character) ? character : words.find((word) => text.startsWith(word, at));
    made += found ?? character.toLowerCase();
    at += (found ?? character).length;
  }
  return made;
}
