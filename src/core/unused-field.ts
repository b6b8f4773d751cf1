import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { readBoolean, readNumber } from "./field-value.ts";
import { hasField } from "./family-fields.ts";
import { FILE_FIELDS, TASK_ROWS, type Field } from "./task-fields.ts";

/** What becomes of a field that came and that the model does not have; `problem` completes "The x field ...". */
export type Unused = { readonly kind: "neutral" } | { readonly kind: "ignored" } | { readonly kind: "refused"; readonly problem: string };

const FIELDS: ReadonlyMap<string, Field> = new Map(
  Object.values(TASK_ROWS).flatMap(({ fields }) => fields.map((field) => [field.name, field] as const)),
);

/**
 * The rule, the same for every task: what is not used is refused. Two exceptions, since public clients send some fields to every model:
 * a value that asks for nothing is as good as absent, and a dial (guidance, steps) within the contract's range is taken and named as unused.
 */
export function judgeUnused(manifest: Manifest, task: Task, name: string, given: unknown): Unused {
  const own = TASK_ROWS[task].fields.find((field) => field.name === name || field.alias === name);
  const field = own ?? FIELDS.get(name);
  if (name === "loras") return isEmptyList(given) ? { kind: "neutral" } : no(`must be empty: the model ${manifest.slug} has no LoRAs.`);
  if (field !== undefined && asksNothing(field, given)) return { kind: "neutral" };
  if (own?.dial !== undefined) {
    const read = readNumber(given, own.dial);
    return read.ok ? { kind: "ignored" } : no(read.problem);
  }
  if (FILE_FIELDS.has(name)) return no(`must be a file, and one that ${task} takes with the model ${manifest.slug}.`);
  // Where every model has one choice at least, that one is what there is.
  if (own?.fallback !== undefined && own.choices !== undefined) return no(`must be one of ${own.fallback}.`);
  if (own !== undefined) return no(`is not an option of the model ${manifest.slug}: leave it out.`);
  return no(`is not known to ${task} with the model ${manifest.slug}, which takes ${namesOf(manifest, task)}.`);
}

const no = (problem: string): Unused => ({ kind: "refused", problem });

function asksNothing({ fallback, neutral = [] }: Field, given: unknown): boolean {
  const value = typeof given === "string" ? given.trim().toLowerCase() : given;
  // A switch that is off, and a number as a form spells it.
  if (fallback === false && readBoolean(value).ok) return !isOn(value);
  return [...neutral, ...(fallback === undefined ? [] : [fallback])].some(
    (each) => each === (typeof each === "number" && typeof value === "string" ? Number(value) : value),
  );
}

function isOn(value: unknown): boolean {
  const read = readBoolean(value);
  return read.ok && read.value;
}

function isEmptyList(value: unknown): boolean {
  return (Array.isArray(value) && value.length === 0) || (typeof value === "string" && /^\s*(\[\s*\]|null)?\s*$/.test(value));
}

function namesOf(manifest: Manifest, task: Task): string {
  const { fields, files = [] } = TASK_ROWS[task];
  const names = [...fields, ...files].filter((each) => hasField(manifest, each)).map(({ name }) => name);
  return ["model", ...names, "webhook_url", "webhook_secret"].join(", ");
}
