import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { after, test } from "node:test";
import { familyFiles, graphPlaces, layoutOf, type FileSpec } from "../../src/core/family-layout.ts";
import { FAMILY_OPTIONS } from "../../src/core/unknown-keys.ts";
import { firstWhole } from "../../src/lib/first-whole.ts";
import { openModels } from "../../src/models/open-models.ts";
import { AppError } from "../../src/protocol/error.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import { loadFrom } from "../support/pipeline-rig.ts";

/** The table of what families open (core/family-layout.ts) against what their pipelines do open. */

const MODELS = new URL("../../models/", import.meta.url).pathname;
const SLUGS = ["tiny-flux-dev", "tiny-ltx-video", "tiny-kokoro", "tiny-vits", "tiny-musicgen", "tiny-whisper"];

const root = await mkdtemp(join(tmpdir(), "dryapi-layout-"));
after(() => rm(root, { recursive: true, force: true }));

interface Folder {
  readonly dir: string;
  readonly manifest: Manifest;
  readonly required: readonly FileSpec[];
}

/** A folder with nothing but what the table says that the family opens, and a manifest that names none of it. */
async function barest(slug: string, name: string): Promise<Folder> {
  const shipped = join(MODELS, slug);
  const read = parseManifest(JSON.parse(await readFile(join(shipped, "model.json"), "utf8")), slug);
  const manifest: Manifest = { ...read, parts: {}, files: {} };
  const dir = join(root, name, slug);
  const required: FileSpec[] = [];
  for (const wanted of familyFiles(manifest)) {
    const set = (await firstWhole(shipped, wanted.sets)) ?? [];
    if (wanted.required) required.push(...set);
    for (const { file } of set) {
      await mkdir(dirname(join(dir, file)), { recursive: true });
      await cp(join(shipped, file), join(dir, file));
    }
  }
  await writeFile(join(dir, "model.json"), JSON.stringify(manifest));
  return { dir, manifest, required };
}

async function works(dir: string, change: Partial<Manifest> = {}): Promise<void> {
  const { pipeline } = await loadFrom(dir, change);
  await pipeline.probe();
  await pipeline.close();
}

const refused = (thrown: unknown): boolean => thrown instanceof AppError && /^(MODEL|MANIFEST)_/.test(thrown.code);

for (const slug of SLUGS) {
  test(`${slug}: the files of the table suffice, and each of them is needed`, async () => {
    const { dir, required } = await barest(slug, "needed");
    await works(dir);
    for (const spec of required) {
      const path = join(dir, spec.file);
      const whole = await readFile(path);
      await rm(path);
      await assert.rejects(works(dir), refused, `${spec.file} is not needed`);
      for (const key of spec.holds ?? []) {
        const value = key === "" ? {} : without(JSON.parse(whole.toString()) as Record<string, unknown>, key.split("."));
        await writeFile(path, JSON.stringify(value));
        // A vocabulary of nothing is one that the pipelines take: they speak nothing with it.
        if (key !== "") await assert.rejects(works(dir), refused, `${key} of ${spec.file} is not needed`);
      }
      await writeFile(path, whole);
    }
  });

  test(`${slug}: every role and option of the table is one that the pipeline looks at`, async () => {
    const { dir, manifest } = await barest(slug, "roles");
    const { family } = manifest;
    const place = async (part: string): Promise<string> => {
      const found = await firstWhole(
        dir,
        graphPlaces(manifest, part).map((file) => [{ file }]),
      );
      return found?.[0]?.file ?? "";
    };
    for (const [part, row] of Object.entries(layoutOf(family).graphs)) {
      const file = await place(part);
      for (const [side, roles] of [
        ["inputs", row.inputs],
        ["outputs", row.outputs],
      ] as const) {
        for (const role of roles.map((name) => name.replace("*", "0"))) {
          // Only a decoder that takes noise looks at the other two: this one does.
          const named = { file, externalData: [], inputs: {}, outputs: {}, [side]: { [role]: "no_such_tensor" } };
          await assert.rejects(works(dir, { parts: { [part]: named } }), /no_such_tensor \(for /, `${part}.${side}.${role}`);
        }
      }
    }
    assert.ok(family !== "fake");
    for (const option of FAMILY_OPTIONS[family])
      await assert.rejects(works(dir, { options: { [option]: { wrong: true } } }), new RegExp(`at ${option}`), option);
  });
}

function without(value: Record<string, unknown>, [first = "", ...rest]: readonly string[]): Record<string, unknown> {
  const { [first]: inner, ...others } = value;
  return rest.length === 0 ? others : { ...others, [first]: without(inner as Record<string, unknown>, rest) };
}

for (const slug of ["tiny-whisper", "tiny-kokoro", "tiny-musicgen"]) {
  test(`${slug}: graphs beside config.json, as Optimum writes them, are found by the check and by the pipeline`, async () => {
    const { dir, manifest } = await barest(slug, "optimum");
    for (const part of Object.keys(layoutOf(manifest.family).graphs)) {
      const [inFolder = "", beside = ""] = graphPlaces(manifest, part);
      assert.equal(basename(inFolder), beside);
      await rename(join(dir, inFolder), join(dir, beside));
    }
    await rm(join(dir, "onnx"), { recursive: true });
    const models = await openModels({ shippedDir: join(root, "none"), modelDirs: [dirname(dir)], stateDir: join(root, "state") });
    assert.equal(models.get(slug)?.state, "available");
    await works(dir);
  });
}

test("an LTX-Video export whose tables or decoder are not those that its config.json describes is refused by what differs", async () => {
  const { dir } = await barest("tiny-ltx-video", "foreign");
  const say = (part: string, config: object): Promise<void> => writeFile(join(dir, part, "config.json"), JSON.stringify(config));
  const tables = (heads: number): Promise<void> => say("transformer", { num_attention_heads: heads, attention_head_dim: 8 });
  // The tiny transformer has tokens of 32 values and takes tables of 16.
  await tables(4);
  await say("vae_decoder", { timestep_conditioning: true });
  await works(dir);
  await tables(2);
  await assert.rejects(works(dir), {
    code: "MODEL_UNSUPPORTED",
    message: /have 16 values a token, .* have 16: these are full-width tables.*expected 8/,
  });
  await tables(8);
  await assert.rejects(works(dir), {
    code: "MODEL_UNSUPPORTED",
    message: /have 16 values a token, .* have 64: .*another model.*expected 32/,
  });
  await tables(4);
  await say("vae_decoder", { timestep_conditioning: false });
  await assert.rejects(works(dir), {
    code: "MODEL_UNSUPPORTED",
    message: /vae_decoder takes noise, and timestep_conditioning is false in /,
  });
});
