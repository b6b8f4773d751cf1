import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { boundsOf } from "./plan-submit.ts";
import { TASK_ROWS, type Field, type FileField } from "./task-fields.ts";

/** The least that a model can be asked for, to see that it runs. */
export interface SmallestRequest {
  readonly task: Task;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Files that it needs. */
  readonly files: readonly FileField[];
}

/** Where neither manifest nor table gives a least value. */
const LEAST: Readonly<Record<string, number>> = { width: 64, height: 64, frames: 9, steps: 1, duration: 1, speed: 1 };
/** Fields that make a request larger, though nobody has to send them. */
const SIZES: ReadonlySet<string> = new Set(["width", "height", "steps", "frames", "fps", "duration"]);

/** A request for the first of the model's tasks that needs no picture, of the smallest size that its limits allow; null where each needs one. */
export function smallestRequest(manifest: Manifest): SmallestRequest | null {
  const tasks = manifest.tasks.map((task) => ({ task, files: (TASK_ROWS[task].files ?? []).filter(({ required }) => required === true) }));
  const plain = tasks.find(({ task, files }) => files.every(({ kind }) => kind === "audio") && !TASK_ROWS[task].fields.some(isUrl));
  if (plain === undefined) return null;
  const { task, files } = plain;
  const wanted = TASK_ROWS[task].fields.filter(({ name, required }) => required === true || SIZES.has(name));
  return { task, files, fields: Object.fromEntries(wanted.map((field) => [field.name, leastOf(manifest, field)])) };
}

function isUrl({ kind }: Field): boolean {
  return kind === "url";
}

function leastOf(manifest: Manifest, field: Field): unknown {
  const { name, kind, choices = [], spoken } = field;
  const language = manifest.languages?.[0];
  if (spoken === "lang") return language?.slug ?? "en-us";
  if (spoken === "voice") return language?.voices[0]?.slug;
  const { min } = boundsOf(manifest, field);
  switch (kind) {
    case "integer":
    case "number":
      return (
        manifest.limits[`min_${name}`] ?? (SIZES.has(name) ? undefined : manifest.defaults[name]) ?? LEAST[name] ?? min ?? field.values?.[0]
      );
    case "choice":
      return manifest.defaults[name] ?? choices[0];
    case "boolean":
      return false;
    case "text":
    case "texts":
    case "url":
    case "seed":
      return "hello".padEnd(min ?? 0, " hello");
  }
}
