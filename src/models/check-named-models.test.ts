import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { AppError } from "../protocol/error.ts";
import type { ModelWishes } from "./asked-for.ts";
import { checkNamedModels } from "./check-named-models.ts";
import { openModels } from "./open-models.ts";

const dir = await mkdtemp(join(tmpdir(), "dryapi-named-"));
after(() => rm(dir, { recursive: true, force: true }));

function manifest(slug: string, status: string): string {
  return JSON.stringify({
    version: 1,
    slug,
    name: slug,
    family: "flux",
    status,
    tasks: ["txt2img"],
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "local" },
    memoryBytes: { cpu: 1 },
  });
}

for (const [slug, status] of [
  ["aa-tiny", "test_model"],
  ["Flux1schnell", "standard_model"],
] as const) {
  await mkdir(join(dir, "shipped", slug), { recursive: true });
  await writeFile(join(dir, "shipped", slug, "model.json"), manifest(slug, status));
}
await mkdir(join(dir, "shipped", "broken"));
await writeFile(join(dir, "shipped", "broken", "model.json"), "{");
await mkdir(join(dir, "empty"));

async function refusal(wishes: Partial<ModelWishes>, modelDirs: readonly string[] = []): Promise<AppError | null> {
  const models = await openModels({ shippedDir: join(dir, "shipped"), modelDirs, stateDir: join(dir, "state") });
  try {
    checkNamedModels({ models: null, pinnedModels: null, ...wishes }, models);
    return null;
  } catch (thrown) {
    assert.ok(thrown instanceof AppError);
    return thrown;
  }
}

test("a misspelt name is refused, with the nearest one and what there is", async () => {
  const error = await refusal({ models: ["Flux1schnell", "flux1-schnel", "zzz"], pinnedModels: ["zzz"] });
  assert.equal(error?.code, "CONFIG_INVALID");
  assert.deepEqual(error.message.split("\n  ").slice(1), [
    "DRYAPI_MODELS names flux1-schnel, of which there is no manifest here; did you mean Flux1schnell?",
    "DRYAPI_MODELS names zzz, of which there is no manifest here",
    "models here: Flux1schnell, aa-tiny",
  ]);
});

test("a pinned model that no manifest has is refused as well", async () => {
  assert.match(
    (await refusal({ pinnedModels: ["Flux1shnel"] }))?.message ?? "",
    /DRYAPI_PINNED_MODELS names Flux1shnel, .*did you mean Flux1schnell/,
  );
});

test("files that are missing, and a manifest that is wrong, are no misspelling", async () => {
  assert.equal(await refusal({ models: ["Flux1schnell", "aa-tiny", "broken"] }), null);
});

test("where a model folder gives nothing, another start may go well: that is no setting to be given up on", async () => {
  for (const [folder, words] of [
    ["nowhere", /folder \S+nowhere of DRYAPI_MODELS_DIR cannot be read: ENOENT/],
    ["empty", /folder \S+empty of DRYAPI_MODELS_DIR holds no model/],
  ] as const) {
    const error = await refusal({ models: ["mine"] }, [join(dir, folder)]);
    assert.equal(error?.code, "MODEL_NOT_FOUND");
    assert.match(error.message, words);
  }
});
