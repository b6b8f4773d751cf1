import assert from "node:assert/strict";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { AppError } from "../../protocol/error.ts";
import { openVitsTokenizer } from "./vits-tokenizer.ts";

const MODEL = join(import.meta.dirname, "..", "..", "..", "models", "tiny-vits");
const CASES = JSON.parse(
  await readFile(join(import.meta.dirname, "..", "..", "..", "test", "fixtures", "vits", "cases.json"), "utf8"),
) as Record<string, { readonly text: string; readonly ids: readonly number[] }>;

const root = await mkdtemp(join(tmpdir(), "vits-tokenizer-"));
after(() => rm(root, { recursive: true, force: true }));

for (const [name, { text, ids }] of Object.entries(CASES)) {
  test(`${name}: the ids are those of transformers' VitsTokenizer`, async () => {
    const tokenizer = await openVitsTokenizer(MODEL);
    assert.deepEqual(tokenizer.encode(text), ids);
  });
}

test("a text without a known character has no ids", async () => {
  const tokenizer = await openVitsTokenizer(MODEL);
  assert.deepEqual(tokenizer.encode("東京 !?"), []);
});

test("a tokenizer that needs phonemes or a romanizer is refused, a missing file is named", async () => {
  for (const [change, message] of [
    [{ phonemize: true }, /phonemes/],
    [{ is_uroman: true }, /uroman/],
  ] as const) {
    const dir = await mkdtemp(join(root, "model-"));
    await cp(join(MODEL, "vocab.json"), join(dir, "vocab.json"));
    await writeFile(join(dir, "tokenizer_config.json"), JSON.stringify({ tokenizer_class: "VitsTokenizer", ...change }));
    await assert.rejects(openVitsTokenizer(dir), (error: AppError) => error.code === "MODEL_UNSUPPORTED" && message.test(error.message));
  }
  await assert.rejects(
    openVitsTokenizer(root),
    (error: AppError) => error.code === "MODEL_CORRUPT" && error.message.includes(join(root, "vocab.json")),
  );
});
