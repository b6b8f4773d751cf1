import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { test } from "node:test";
import { parseManifest, type Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { familyReads, hasField } from "./family-fields.ts";
import { planSubmit, type SubmitPlan } from "./plan-submit.ts";
import { TASK_ROWS, type Field } from "./task-fields.ts";

const MODELS = new URL("../../models/", import.meta.url);
const ALL: ReadonlyMap<string, Field> = new Map(
  Object.values(TASK_ROWS).flatMap(({ fields }) => fields.map((field) => [field.name, field] as const)),
);

/** A value that asks for something, within every bound that there may be. */
function sample(manifest: Manifest, field: Field): unknown {
  const { name, kind, values, choices, fallback, spoken } = field;
  const { limits, languages } = manifest;
  const own = limits[`max_${name}`] ?? (kind === "integer" ? 8 : 2);
  if (spoken === "lang") return languages?.[0]?.slug ?? "xx";
  if (spoken === "voice") return languages?.[0]?.voices[0]?.slug ?? "somebody";
  if (values !== undefined) return values.find((value) => value === manifest.defaults[name]) ?? values[0];
  if (kind === "choice") return choices?.find((choice) => choice !== fallback);
  if (kind === "number" || kind === "integer") return name === "strength" ? 0.5 : own;
  if (kind === "boolean") return true;
  if (kind === "seed") return 7;
  return kind === "url" ? "https://example.com/a" : "something";
}

const EMPTY = [null, "", "  ", []];

test("with every shipped model, task and field of the contract: used, named as unused, or refused by name", async () => {
  const folders = (await readdir(MODELS, { withFileTypes: true })).filter((entry) => entry.isDirectory());
  const seen = { used: 0, ignored: 0, refused: 0, neutral: 0 };
  for (const { name: slug } of folders) {
    const manifest = parseManifest(JSON.parse(await readFile(new URL(`${slug}/model.json`, MODELS), "utf8")), slug);
    for (const task of manifest.tasks) {
      const required = Object.fromEntries(
        TASK_ROWS[task].fields.filter((field) => field.required === true).map((field) => [field.name, sample(manifest, field)]),
      );
      const plan = (fields: Record<string, unknown>): SubmitPlan => {
        const files = (TASK_ROWS[task].files ?? []).filter((file) => file.required === true);
        return planSubmit({ manifest, task, fields: { ...required, ...fields }, files, randomSeed: 1 });
      };
      const bare = plan({});
      assert.ok(bare.ok, `${slug} ${task}: ${JSON.stringify(bare)}`);
      for (const [name, any] of ALL) {
        // Another task's field of the same name may be another one.
        const field = TASK_ROWS[task].fields.find((each) => each.name === name) ?? any;
        const where = `${slug} ${task} ${name}`;
        const nothing = [...(required[name] === undefined ? EMPTY : []), ...(hasOwn(manifest, task, name) ? [] : (field.neutral ?? []))];
        for (const value of nothing) assert.deepEqual(plan({ [name]: value }), bare, `${where}: ${JSON.stringify(value)} asks for nothing`);
        seen.neutral += nothing.length;
        seen[verdictOf({ manifest, task, field, plan: plan({ [name]: sample(manifest, field) }), where })] += 1;
      }
      for (const odd of ["colour", "n", "user", "__x"]) {
        const answer = plan({ [odd]: "red" });
        assert.ok(!answer.ok && Object.keys(answer.errors).join() === odd, `${slug} ${task} ${odd}`);
      }
    }
  }
  for (const [kind, count] of Object.entries(seen)) assert.ok(count > 10, `${kind}: ${count}`);
});

function hasOwn(manifest: Manifest, task: Task, name: string): boolean {
  const own = TASK_ROWS[task].fields.find((field) => field.name === name || field.alias === name);
  return own !== undefined && hasField(manifest, own);
}

interface Judged {
  readonly manifest: Manifest;
  readonly task: Task;
  readonly field: Field;
  readonly plan: SubmitPlan;
  readonly where: string;
}

function verdictOf({ manifest, task, field: { name, dial }, plan, where }: Judged): "used" | "ignored" | "refused" {
  if (!plan.ok) {
    assert.deepEqual(Object.keys(plan.errors), [name], where);
    // A choice that the model does not have is refused as a choice.
    assert.ok(
      !hasOwn(manifest, task, name) || TASK_ROWS[task].fields.some((field) => field.name === name && field.choiceFeatures !== undefined),
      where,
    );
    return "refused";
  }
  if (plan.ignored.length > 0) {
    assert.deepEqual(plan.ignored, [name], where);
    const isPaired = name === "true_cfg_scale" || name === "negative_prompt";
    assert.ok(isPaired || dial !== undefined, where);
    return "ignored";
  }
  assert.ok(hasOwn(manifest, task, name), `${where} was taken without a word`);
  const own = TASK_ROWS[task].fields.find((field) => field.name === name || field.alias === name);
  assert.ok(Object.hasOwn(plan.params, own?.name ?? name) && familyReads(manifest.family, own?.name ?? name), where);
  return "used";
}
