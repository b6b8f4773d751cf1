import { readFile } from "node:fs/promises";
import { z } from "zod";
import { AppError } from "../../protocol/error.ts";

const tokenizerSchema = z.object({ model: z.object({ type: z.literal("BPE"), vocab: z.record(z.string(), z.int().nonnegative()) }) });

/** Token ids -> text. Whisper's texts are never encoded by us, so nothing but the vocabulary is needed. */
export interface TextDecoding {
  /** Special tokens and stamps are left out; bytes that are no UTF-8 become U+FFFD, as in OpenAI's and transformers' `decode`. */
  decode(ids: readonly number[]): string;
}

/** @throws AppError MODEL_CORRUPT naming the file. `end` is the first id that is no text. */
export async function openWhisperTokenizer(path: string, end: number): Promise<TextDecoding> {
  let vocab: Readonly<Record<string, number>>;
  try {
    vocab = tokenizerSchema.parse(JSON.parse(await readFile(path, "utf8"))).model.vocab;
  } catch (thrown) {
    const why = thrown instanceof z.ZodError ? z.prettifyError(thrown) : (thrown as Error).message;
    throw new AppError("MODEL_CORRUPT", `${path} is no byte-level BPE tokenizer: ${why}`, { cause: thrown });
  }
  const byteOf = byteAlphabet();
  const bytes: Uint8Array[] = [];
  for (const [token, id] of Object.entries(vocab)) {
    if (id < end) bytes[id] = Uint8Array.from(token, (char) => byteOf.get(char) ?? 0x3f);
  }
  return {
    decode: (ids) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Buffer.concat(ids.flatMap((id) => bytes[id] ?? []))),
  };
}

/** GPT-2's letters for the 256 bytes: printable Latin-1 stands for itself, the others for U+0100 on, in their order (gpt-2 encoder.py). */
function byteAlphabet(): ReadonlyMap<string, number> {
  const isPlain = (byte: number): boolean => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  let next = 0x100;
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(isPlain(byte) ? byte : next++), byte]));
}
