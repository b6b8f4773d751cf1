import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { manifestJsonSchema } from "./manifest-json-schema.ts";
import { parseManifest } from "./manifest.ts";

const MODELS = new URL("../../models/", import.meta.url);

test("models/schema.json is what the manifest schema says now", async () => {
  assert.equal(await readFile(new URL("schema.json", MODELS), "utf8"), manifestJsonSchema(), "run `node scripts/make-schema.ts`");
});

test("every shipped manifest is valid and named after its folder", async () => {
  const folders = (await readdir(MODELS, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  assert.ok(folders.length >= 4);
  for (const { name } of folders) {
    const path = new URL(`${name}/model.json`, MODELS);
    assert.equal(parseManifest(JSON.parse(await readFile(path, "utf8")), path.pathname).slug, name);
  }
});

test("the contract's limits of the Flux models hold", async () => {
  const read = async (slug: string): Promise<ReturnType<typeof parseManifest>> =>
    parseManifest(JSON.parse(await readFile(new URL(`${slug}/model.json`, MODELS), "utf8")), slug);
  const schnell = await read("Flux1schnell");
  assert.deepEqual(schnell.tasks, ["txt2img", "img2img"]);
  assert.deepEqual([schnell.limits["min_width"], schnell.limits["max_height"], schnell.limits["resolution_step"]], [256, 2048, 16]);
  assert.deepEqual(
    [schnell.limits["min_steps"], schnell.limits["max_steps"], schnell.defaults["steps"], schnell.defaults["width"]],
    [1, 10, 4, 768],
  );
  assert.deepEqual([schnell.features["supports_guidance"], schnell.license.commercial], [false, true]);
  const dev = await read("Flux1dev");
  assert.deepEqual(
    [dev.limits["max_steps"], dev.defaults["steps"], dev.limits["max_guidance"], dev.defaults["guidance"]],
    [50, 28, 10, 3.5],
  );
  assert.deepEqual([dev.features["supports_guidance"], dev.license.commercial], [true, false]);
});
