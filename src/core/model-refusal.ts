import { closest } from "../lib/closest.ts";
import type { Task } from "../protocol/task.ts";

export interface ModelTasks {
  readonly slug: string;
  readonly tasks: readonly Task[];
}

/** More are not listed: `GET /models` has them all. */
const MAX_LISTED = 10;
/** Of what a client sent: longer is no name of a model. */
const MAX_SLUG_CHARS = 80;

export interface ModelRefusal {
  /** What the request names. */
  readonly wanted: unknown;
  /** Any of them would do. */
  readonly tasks: readonly Task[];
  readonly offered: readonly ModelTasks[];
}

/** Why a request cannot have the model that it names, and which ones it can have: `The selected model is invalid. Models for txt2img: A, B.` */
export function modelRefusal({ wanted, tasks, offered }: ModelRefusal): string {
  const fitting = offered.filter((model) => model.tasks.some((task) => tasks.includes(task))).map(({ slug }) => slug);
  const about = typeof wanted === "string" && wanted.length <= MAX_SLUG_CHARS ? aboutWanted(wanted, offered, fitting) : null;
  return ["The selected model is invalid.", about, choice(tasks, fitting)].filter((text) => text !== null).join(" ");
}

function aboutWanted(wanted: string, offered: readonly ModelTasks[], fitting: readonly string[]): string | null {
  const known = offered.find(({ slug }) => slug === wanted);
  if (known !== undefined) return `Model ${wanted} is for ${listed(known.tasks)}.`;
  const near = closest(wanted, fitting);
  return near === null ? null : `Did you mean ${near}?`;
}

function choice(tasks: readonly Task[], fitting: readonly string[]): string {
  const purpose = listed(tasks);
  return fitting.length === 0 ? `No model for ${purpose} is installed.` : `Models for ${purpose}: ${listed(fitting)}.`;
}

function listed(names: readonly string[]): string {
  const more = names.length - MAX_LISTED;
  return `${names.slice(0, MAX_LISTED).join(", ")}${more > 0 ? ` and ${more} more` : ""}`;
}
