import { AppError } from "../protocol/error.ts";
import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { extraParamsOf, pricesOf } from "./extra-params.ts";
import { FAMILY_FIELDS, familyReads, hasField } from "./family-fields.ts";
import { defaultProblem } from "./plan-submit.ts";
import { unknownKeys } from "./unknown-keys.ts";
import { TASK_ROWS, type Field, type FileField } from "./task-fields.ts";

/** Features of the contract that describe a field, without which the field is there all the same. */
const DESCRIPTIVE: ReadonlyMap<string, string> = new Map([
  ["supports_timestamps", "include_ts"],
  ["supports_custom_output_size", "width"],
]);

/**
 * Whether the model can do what its manifest says: no limit wider than the pipeline's, no default outside the limits, no feature that no
 * field of its tasks serves, no task that its family has not, no key that nothing reads. The family of tests takes anything.
 * @throws AppError MANIFEST_INVALID that names every problem; `origin` is the file's path
 */
export function checkManifest(manifest: Manifest, origin: string): void {
  const { slug, family, tasks } = manifest;
  const { typed } = extraParamsOf(manifest);
  pricesOf(manifest);
  if (FAMILY_FIELDS[family].reads === null) return;
  const problems = new Set([
    ...unknownKeys(manifest),
    ...tasks.flatMap((task) => TASK_ROWS[task].fields.flatMap((field) => fieldProblems(manifest, task, field, typed))),
    ...featureProblems(manifest),
  ]);
  if (problems.size === 0) return;
  const lines = [...problems].map((problem) => `  ${problem}`);
  throw new AppError("MANIFEST_INVALID", `${origin}: model ${slug} cannot keep what its manifest says:\n${lines.join("\n")}`);
}

function fieldProblems(manifest: Manifest, task: Task, field: Field, declared: readonly Field[]): readonly string[] {
  const { name } = field;
  const { limits, defaults } = manifest;
  const own = declared.find((param) => param.name === name);
  const problems = [
    ...wider(`limits.min_${name}`, limits[`min_${name}`], `limits.max_${name}`, limits[`max_${name}`], field),
    ...(own === undefined ? [] : wider(`min of ${name} in options.params`, own.min, `max of ${name} in options.params`, own.max, field)),
  ];
  const wrong = problems.length === 0 && hasField(manifest, field) ? defaultProblem(manifest, task, field) : null;
  if (wrong !== null) problems.push(`defaults.${name} is ${JSON.stringify(defaults[name])}: it ${wrong}`);
  return problems;
}

function wider(minName: string, min: number | undefined, maxName: string, max: number | undefined, field: Field): string[] {
  const problems: string[] = [];
  if (min !== undefined && field.min !== undefined && min < field.min)
    problems.push(`${minName} is ${min}: ${field.name} is at least ${field.min} here`);
  if (max !== undefined && field.max !== undefined && max > field.max)
    problems.push(`${maxName} is ${max}: ${field.name} is at most ${field.max} here`);
  if (min !== undefined && max !== undefined && min > max) problems.push(`${minName} is ${min}, above ${maxName}, which is ${max}`);
  return problems;
}

function featureProblems(manifest: Manifest): readonly string[] {
  const { features, family } = manifest;
  const announced = Object.keys(features).filter((name) => features[name] === true);
  const unserved = announced.filter((feature) => !servedBy(manifest, feature));
  const problems = unserved.map(
    (feature) => `features.${feature} is true: no field of its tasks that family ${family} reads serves it; take it out or set it to false`,
  );
  const by = FAMILY_FIELDS[family].negativeBy;
  const scale = by === undefined ? undefined : fieldsOf(manifest).find(({ name }) => name === by);
  if (features["supports_negative_prompt"] === true && scale !== undefined && !hasField(manifest, scale))
    problems.push(
      `features.supports_negative_prompt is true: family ${family} looks at a negative prompt only where ${by} is above 1; offer it with features.${scale.feature}`,
    );
  return problems;
}

function servedBy(manifest: Manifest, feature: string): boolean {
  const described = DESCRIPTIVE.get(feature);
  return fieldsOf(manifest).some(
    (field) => familyReads(manifest.family, field.name) && (field.feature === feature || field.name === described),
  );
}

function fieldsOf({ tasks }: Manifest): readonly (Field | FileField)[] {
  return tasks.flatMap((task) => [...TASK_ROWS[task].fields, ...(TASK_ROWS[task].files ?? [])]);
}
