import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { hasField } from "./family-fields.ts";
import { TASK_ROWS, type FileField, type FileKind } from "./task-fields.ts";

/** Something that came as a file: `image`, `images[1]`. */
export interface NamedFile {
  readonly name: string;
}

export type TaskFile<F extends NamedFile> = F & { readonly kind: FileKind };

/** The files that a task takes with a model, in their order. */
export function taskFiles<F extends NamedFile>(manifest: Manifest, task: Task, files: readonly F[]): readonly TaskFile<F>[] {
  const fields = fileFields(manifest, task);
  return files.flatMap((file) => {
    const field = fields.find((each) => isIn(file, each));
    return field === undefined ? [] : [{ ...file, kind: field.kind }];
  });
}

/** What is wrong with the files that came, and with those that did not: texts by field that complete "The x field ...". */
export function fileProblems(
  manifest: Manifest,
  task: Task,
  files: readonly NamedFile[],
  { priceOnly = false }: { readonly priceOnly?: boolean } = {},
): ReadonlyMap<string, string> {
  const problems = new Map<string, string>();
  const fields = fileFields(manifest, task);
  for (const file of files) {
    if (fields.some((field) => isIn(file, field))) continue;
    const taken = fields.map(({ name }) => name).join(", ");
    problems.set(baseOf(file), `is no file that ${task} takes with the model ${manifest.slug}; it takes ${taken || "none"}.`);
  }
  for (const field of fields) {
    const { name, list, required } = field;
    const max = list === undefined ? 1 : (manifest.limits["max_input_images"] ?? 1);
    const count = files.filter((file) => isIn(file, field)).length;
    if (count === 0 && required === true && !priceOnly) problems.set(name, "is required.");
    else if (count > max) problems.set(list ?? name, `must not have more than ${max} items.`);
  }
  return problems;
}

/** The files that a model has a use for. */
export function fileFields(manifest: Manifest, task: Task): readonly FileField[] {
  return (TASK_ROWS[task].files ?? []).filter((field) => hasField(manifest, field));
}

function baseOf({ name }: NamedFile): string {
  return name.replace(/\[\d*\]$/, "");
}

function isIn(file: NamedFile, { name, list }: FileField): boolean {
  const base = baseOf(file);
  return base === name || base === list;
}
