import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import sharp from "sharp";
import { sha256File } from "../../lib/sha256-file.ts";
import { AppError } from "../../protocol/error.ts";
import { encodeImage } from "./encode-image.ts";

let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "encode-image-"));
});
after(() => rm(dir, { recursive: true, force: true }));

const image = { width: 40, height: 24, data: Uint8Array.from({ length: 40 * 24 * 3 }, (_, i) => (i * 5) % 256) };

test("three formats of one picture, complete, with size and digest", async () => {
  const files = await encodeImage(image, { outDir: dir, metadata: { prompt: "a dog", seed: "7" } });
  assert.deepEqual(
    files.map(({ name, role, contentType }) => [name, role, contentType]),
    [
      ["image.png", "main", "image/png"],
      ["image.webp", "alt", "image/webp"],
      ["image.jpg", "alt", "image/jpeg"],
    ],
  );
  assert.deepEqual((await readdir(dir)).toSorted(), ["image.jpg", "image.png", "image.webp"]);
  for (const { name, sizeBytes, sha256 } of files) assert.deepEqual(await sha256File(join(dir, name)), { sizeBytes, sha256 });
});

test("the PNG holds the very pixels and the metadata", async () => {
  const png = sharp(join(dir, "image.png"));
  assert.ok((await png.clone().raw().toBuffer()).equals(image.data));
  const { comments } = await png.metadata();
  assert.deepEqual(
    comments?.map(({ keyword, text }) => [keyword, text]),
    [
      ["prompt", "a dog"],
      ["seed", "7"],
    ],
  );
});

test("a folder that cannot be written is named", async () => {
  await assert.rejects(
    encodeImage(image, { outDir: join(dir, "absent"), metadata: {} }),
    (thrown) => thrown instanceof AppError && thrown.code === "INTERNAL" && thrown.message.includes("absent/image."),
  );
});
