import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { TASK_ROWS, type FileField, type FileKind } from "./task-fields.ts";

/** Something that came as a file: `image`, `images[1]`. */
export interface NamedFile {
  readonly name: string;
}

export type TaskFile<F extends NamedFile> = F & { readonly kind: FileKind };

/** The files that a task takes with a model, in their order; others are left aside, as fields that nobody declared are. */
export function taskFiles<F extends NamedFile>(manifest: Manifest, task: Task, files: readonly F[]): readonly TaskFile<F>[] {
  const fields = (TASK_ROWS[task].files ?? []).filter(({ feature }) => feature === undefined || manifest.features[feature] === true);
  return files.flatMap((file) => {
    const field = fields.find((each) => isIn(file, each));
    return field === undefined ? [] : [{ ...file, kind: field.kind }];
  });
}

/** What is wrong with the number of files per field: texts by field that complete "The x field ...". */
export function fileProblems(manifest: Manifest, task: Task, files: readonly NamedFile[]): ReadonlyMap<string, string> {
  const problems = new Map<string, string>();
  for (const field of TASK_ROWS[task].files ?? []) {
    const { name, list, required } = field;
    const max = list === undefined ? 1 : (manifest.limits["max_input_images"] ?? 1);
    const count = files.filter((file) => isIn(file, field)).length;
    if (count === 0 && required === true) problems.set(name, "is required.");
    else if (count > max) problems.set(list ?? name, `must not have more than ${max} items.`);
  }
  return problems;
}

function isIn(file: NamedFile, { name, list }: FileField): boolean {
  const base = file.name.replace(/\[\d*\]$/, "");
  return base === name || base === list;
}
