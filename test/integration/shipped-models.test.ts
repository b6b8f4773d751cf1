import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256File } from "../../src/lib/sha256-file.ts";
import { MODELS, readManifest } from "../support/flux-rig.ts";

for (const slug of ["tiny-flux-schnell", "tiny-flux-dev"]) {
  test(`${slug}: the graphs are the ones that its manifest pins`, async () => {
    const { parts } = await readManifest(slug);
    assert.equal(Object.keys(parts).length, 5);
    for (const { file, sizeBytes, sha256 } of Object.values(parts)) {
      const found = await sha256File(new URL(`${slug}/${file}`, MODELS).pathname);
      assert.deepEqual({ sizeBytes, sha256 }, found, `run \`node scripts/pin-model.ts models/${slug}\``);
    }
  });
}
