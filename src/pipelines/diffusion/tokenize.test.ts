import assert from "node:assert/strict";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { AppError, type ErrorCode } from "../../protocol/error.ts";
import { openClipTokenizer, openT5Tokenizer } from "./tokenize.ts";

const MODEL = new URL("../../../models/tiny-flux-schnell/", import.meta.url).pathname;
const CLIP = join(MODEL, "tokenizer");
const T5 = join(MODEL, "tokenizer_2");

interface TokenizerGolden {
  readonly prompt: string;
  readonly clip: readonly number[];
  /** Where transformers' fast CLIP tokenizer differs from the slow one, which repairs text with ftfy. */
  readonly clip_fast?: readonly number[];
  readonly t5: readonly number[];
}

const goldens = JSON.parse(
  await readFile(new URL("../../../test/fixtures/flux/tokenizers.json", import.meta.url), "utf8"),
) as readonly TokenizerGolden[];

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "tokenize-"));
});
after(() => rm(dir, { recursive: true, force: true }));

const padded = (ids: readonly number[], length: number, pad: number): number[] => [
  ...ids,
  ...Array.from({ length: length - ids.length }, () => pad),
];

const failsWith =
  (code: ErrorCode, ...texts: RegExp[]) =>
  (thrown: unknown): boolean =>
    thrown instanceof AppError && thrown.code === code && texts.every((text) => text.test(thrown.message));

for (const { prompt, clip, clip_fast: clipFast, t5 } of goldens) {
  test(`ids of ${JSON.stringify(prompt.slice(0, 40))} equal transformers'`, async () => {
    const clipTokenizer = await openClipTokenizer(CLIP, 77);
    const t5Tokenizer = await openT5Tokenizer(T5, 256);
    assert.deepEqual(clipTokenizer.encode(prompt), padded(clipFast ?? clip, 77, 673));
    assert.deepEqual(t5Tokenizer.encode(prompt), padded(t5, 256, 0));
  });
}

test("an over-long prompt still ends in the end token, at any length", async () => {
  const long = "word ".repeat(1000);
  for (const length of [2, 20, 77]) {
    const clip = await openClipTokenizer(CLIP, length);
    assert.deepEqual([clip.encode(long).length, clip.encode(long).at(-1)], [length, 673]);
    const t5 = await openT5Tokenizer(T5, length);
    assert.deepEqual([t5.encode(long).length, t5.encode(long).at(-1)], [length, 1]);
  }
});

test("a tokenizer.json is preferred where CLIP has one", async () => {
  const folder = join(dir, "with-json");
  await mkdir(folder);
  await copyFile(join(T5, "tokenizer.json"), join(folder, "tokenizer.json"));
  await copyFile(join(T5, "tokenizer_config.json"), join(folder, "tokenizer_config.json"));
  const t5 = await openT5Tokenizer(T5, 20);
  assert.deepEqual((await openClipTokenizer(folder, 20)).encode("a red fox"), t5.encode("a red fox"));
});

test("spiece.model alone is refused with the way to convert it", async () => {
  const folder = join(dir, "spiece");
  await mkdir(folder);
  await copyFile(join(T5, "spiece.model"), join(folder, "spiece.model"));
  await assert.rejects(
    openT5Tokenizer(folder, 20),
    failsWith("MODEL_UNSUPPORTED", /spiece\/tokenizer\.json/, /spiece\.model alone/, /T5TokenizerFast/),
  );
});

test("missing and broken files are named", async () => {
  const folder = join(dir, "broken");
  await mkdir(folder);
  await assert.rejects(openClipTokenizer(folder, 77), failsWith("MODEL_CORRUPT", /broken\/vocab\.json does not exist/));
  await writeFile(join(folder, "vocab.json"), '{"a": 0}');
  await assert.rejects(openClipTokenizer(folder, 77), failsWith("MODEL_CORRUPT", /broken\/merges\.txt does not exist/));
  await writeFile(join(folder, "merges.txt"), "#version: 0.2\n");
  await assert.rejects(openClipTokenizer(folder, 77), failsWith("MODEL_CORRUPT", /vocab\.json: the vocabulary lacks <\|startoftext\|>/));
  await writeFile(join(folder, "vocab.json"), "{");
  await assert.rejects(openClipTokenizer(folder, 77), failsWith("MODEL_CORRUPT", /vocab\.json is no JSON/));
  await writeFile(join(folder, "tokenizer.json"), '{"model": {"type": "Nonsense"}}');
  await assert.rejects(openT5Tokenizer(folder, 77), failsWith("MODEL_UNSUPPORTED", /broken: the tokenizer cannot be built/));
  await writeFile(join(folder, "tokenizer.json"), '{"normalizer": {"type": "Precompiled", "precompiled_charsmap": "//8="}}');
  await assert.rejects(openT5Tokenizer(folder, 77), failsWith("MODEL_UNSUPPORTED", /broken: .*precompiled_charsmap is cut/));
});
