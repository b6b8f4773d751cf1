import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { AppError } from "../protocol/error.ts";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import { checkManifest } from "./check-manifest.ts";

const MODELS = new URL("../../models/", import.meta.url);

async function shipped(slug: string, change: (manifest: Manifest) => Partial<Manifest> = () => ({})): Promise<Manifest> {
  const manifest = parseManifest(JSON.parse(await readFile(new URL(`${slug}/model.json`, MODELS), "utf8")), slug);
  return { ...manifest, ...change(manifest) };
}

test("every shipped manifest keeps what it says", async () => {
  const folders = (await readdir(MODELS, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  assert.ok(folders.length > 10);
  for (const { name } of folders) checkManifest(await shipped(name), name);
});

test("a limit wider than the pipeline's, a default outside the limits and a feature that nothing serves are named", async () => {
  const limit = (limits: Record<string, number>) => (own: Manifest) => ({ limits: { ...own.limits, ...limits } });
  const feature = (name: string) => (own: Manifest) => ({ features: { ...own.features, [name]: true } });
  const cases: readonly [string, (manifest: Manifest) => Partial<Manifest>, RegExp][] = [
    ["tiny-flux-schnell", limit({ min_strength: 0 }), /limits\.min_strength is 0: strength is at least 0\.01 here/],
    ["tiny-flux-schnell", limit({ max_strength: 2 }), /limits\.max_strength is 2: strength is at most 1 here/],
    ["tiny-flux-schnell", limit({ min_steps: 0 }), /limits\.min_steps is 0: steps is at least 1 here/],
    ["tiny-flux-schnell", limit({ min_steps: 9, max_steps: 4 }), /limits\.min_steps is 9, above limits\.max_steps, which is 4/],
    ["tiny-flux-schnell", limit({ max_steps: 2 }), /defaults\.steps is 4: it must not be greater than 2/],
    ["Kokoro", limit({ max_text: 1_000_000 }), /limits\.max_text is 1000000: text is at most 10001 here/],
    ["tiny-whisper", feature("supports_language"), /features\.supports_language is true: no field of its tasks that family whisper reads/],
    ["tiny-kokoro", feature("supports_voice_clone"), /features\.supports_voice_clone is true/],
    ["tiny-musicgen", feature("supports_lyrics"), /features\.supports_lyrics is true/],
    ["tiny-flux-schnell", feature("supports_lora"), /features\.supports_lora is true/],
    [
      "tiny-flux-schnell",
      feature("supports_negative_prompt"),
      /only where true_cfg_scale is above 1; offer it with features\.supports_true_cfg/,
    ],
    [
      "tiny-flux-schnell",
      () => ({ options: { params: [{ name: "strength", type: "number", min: 0 }] } }),
      /min of strength in options\.params is 0/,
    ],
    ["tiny-flux-schnell", () => ({ options: { prices: { txt2img: "1" } } }), /options\.prices\.txt2img is "1"/],
    ["tiny-flux-schnell", () => ({ options: { passParams: "yes" } }), /options\.passParams is "yes"/],
  ];
  for (const [slug, change, expected] of cases) {
    const manifest = await shipped(slug, change);
    assert.throws(
      () => checkManifest(manifest, "here/model.json"),
      (thrown) => {
        assert.ok(thrown instanceof AppError && thrown.code === "MANIFEST_INVALID");
        assert.match(thrown.message, expected);
        return true;
      },
    );
  }
  checkManifest(await shipped("tiny-whisper", feature("supports_timestamps")), "described");
});
