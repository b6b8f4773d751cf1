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

test("a key that nothing reads is refused with the nearest one that something does, a task with those of the family", async () => {
  const part = (name: string, more: object) => (own: Manifest) => ({
    parts: { ...own.parts, [name]: { file: "", externalData: [], inputs: {}, outputs: {}, ...own.parts[name], ...more } },
  });
  const add = (where: "limits" | "features" | "files" | "options" | "defaults" | "parts", more: object) => (own: Manifest) => ({
    [where]: { ...own[where], ...more },
  });
  const cases: readonly [string, (manifest: Manifest) => Partial<Manifest>, RegExp][] = [
    ["tiny-flux-dev", add("limits", { max_step: 4 }), /limits\.max_step is not known and would do nothing; did you mean max_steps\?/],
    ["tiny-flux-dev", add("limits", { resolution_steps: 8 }), /limits\.resolution_steps .* did you mean resolution_step\?/],
    ["tiny-flux-dev", add("features", { supports_guidence: true }), /features\.supports_guidence .* did you mean supports_guidance\?/],
    ["tiny-flux-dev", add("files", { tokeniser: "t" }), /files\.tokeniser .* did you mean tokenizer\?/],
    ["tiny-flux-dev", add("options", { t5_lenght: 256 }), /options\.t5_lenght .* did you mean t5_length\?/],
    ["tiny-flux-dev", add("defaults", { step: 4 }), /defaults\.step .* did you mean steps\?/],
    ["tiny-flux-dev", add("parts", { transformr: { file: "a", inputs: {}, outputs: {}, externalData: [] } }), /did you mean transformer\?/],
    ["tiny-flux-dev", part("transformer", { inputs: { time_step: "t" } }), /parts\.transformer\.inputs\.time_step .* mean timestep\?/],
    ["tiny-flux-dev", part("text_encoder", { outputs: { pooled: "p" } }), /parts\.text_encoder\.outputs\.pooled .*known: pooler_output/],
    ["tiny-whisper", part("decoder", { inputs: { "past_key_values.1.decoder.kez": "p" } }), /decoder\.kez is not known/],
    ["tiny-whisper", add("files", { xyz: "t" }), /files\.xyz .* known: config, generation_config, tokenizer$/m],
    ["tiny-whisper", () => ({ tasks: ["txt2img"] }), /tasks names txt2img: family whisper can do audiofile2txt, videofile2txt/],
    ["tiny-kokoro", () => ({ tasks: ["txt2audio", "txt2music"] }), /tasks names txt2music: family kokoro can do txt2audio;/],
  ];
  for (const [slug, change, expected] of cases) {
    const manifest = await shipped(slug, change);
    assert.throws(() => checkManifest(manifest, "here/model.json"), { code: "MANIFEST_INVALID", message: expected });
  }
  checkManifest(await shipped("tiny-whisper", part("decoder", { inputs: { "past_key_values.11.decoder.key": "p" } })), "a number");
  const declared = { params: [{ name: "level", type: "integer", max: 3 }, "style"] };
  checkManifest(await shipped("tiny-flux-dev", (own) => ({ options: declared, limits: { ...own.limits, max_level: 2 } })), "declared");
});
