import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import { planSubmit } from "./plan-submit.ts";
import { requestForm, type FormField } from "./request-form.ts";

const MODELS = join(import.meta.dirname, "..", "..", "models");
const MANIFESTS: readonly Manifest[] = readdirSync(MODELS, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => parseManifest(JSON.parse(readFileSync(join(MODELS, name, "model.json"), "utf8")), name));

/** What a person fills in who fills in every field. */
function filled({ kind, default: preset, choices, choicesBy, min, max }: FormField): unknown {
  if (preset !== undefined) return preset;
  const [first] = choices ?? Object.values(choicesBy?.choices ?? {})[0] ?? [];
  if (first !== undefined) return first;
  if (kind === "boolean") return false;
  if (kind === "url") return "https://a.example/b.mp3";
  return kind === "integer" || kind === "number" ? Math.max(min ?? 1, Math.min(512, max ?? 512)) : "abc";
}

test("for every model and task the form, filled in and with its required fields alone, is a request that is taken and used", () => {
  let forms = 0;
  for (const manifest of MANIFESTS) {
    for (const task of manifest.tasks) {
      const form = requestForm(manifest, task);
      const files = form.files.filter(({ required }) => required).map(({ name }) => ({ name, width: 512, height: 512 }));
      const values = (fields: readonly FormField[]): Record<string, unknown> =>
        Object.fromEntries(fields.map((field) => [field.name, filled(field)]));
      const plan = (fields: Record<string, unknown>): ReturnType<typeof planSubmit> =>
        planSubmit({ manifest, task, files, fields, randomSeed: 1 });
      const whole = plan(values(form.fields));
      assert.ok(whole.ok, `${manifest.slug} ${task}: ${JSON.stringify(whole)}`);
      // A negative prompt alone needs a scale above 1 to mean anything.
      assert.deepEqual(
        whole.ignored.filter((name) => name !== "negative_prompt"),
        [],
        `${manifest.slug} ${task}`,
      );
      assert.ok(plan(values(form.fields.filter(({ required }) => required))).ok, `${manifest.slug} ${task}`);
      for (const { name } of form.fields.filter(({ required }) => required)) {
        const without = values(form.fields);
        delete without[name];
        assert.equal(plan(without).ok, false, `${manifest.slug} ${task} without ${name}`);
      }
      forms += 1;
    }
  }
  assert.ok(forms > 20, `${forms} forms`);
});

test("a voice is offered with its language", () => {
  const kokoro = MANIFESTS.find(({ slug }) => slug === "tiny-kokoro");
  assert.ok(kokoro !== undefined);
  const voice = requestForm(kokoro, "txt2audio").fields.find(({ name }) => name === "voice");
  const choices = { "en-us": ["af_sky"], "en-gb": ["bf_emma", "af_sky"], "fr-fr": ["bf_emma"] };
  assert.deepEqual(voice?.choicesBy, { field: "lang", choices });
});
