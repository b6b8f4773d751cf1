import type { UnusableModel } from "../core/model-availability.ts";
import { isAskedFor, namedModels } from "../models/asked-for.ts";
import { unusableError } from "../models/open-models.ts";
import { isAbsent, type ModelState } from "../models/scan-models.ts";
import type { AppError } from "../protocol/error.ts";
import type { WorkerContext } from "./worker-context.ts";

/** Of one model; the announcement of a worker stays small. */
const MAX_MESSAGE_CHARS = 500;

/**
 * The models that this worker is meant to serve and cannot: files missing or damaged, a manifest that is wrong, a load that failed for
 * either. Remembers since when. Loads that failed for the moment (no memory, no device, too slow) are not among them: see the daemon.
 */
export class UnusableModels {
  readonly #context: Pick<WorkerContext, "config" | "models">;
  #since = new Map<string, number>();

  constructor(context: Pick<WorkerContext, "config" | "models">) {
    this.#context = context;
  }

  list(now: number = Date.now()): readonly UnusableModel[] {
    const earlier = this.#since;
    const found = unusableModels(this.#context).map(({ model, code, message }): UnusableModel => ({
      model,
      code,
      message: shortened(message),
      since: earlier.get(model) ?? now,
    }));
    this.#since = new Map(found.map(({ model, since }) => [model, since]));
    return found;
  }
}

/** What the log says of them: names file or setting. Invalid manifests are told by the scan, but for pinned ones. */
export function unservedModels(
  context: Pick<WorkerContext, "config" | "models">,
): readonly { readonly message: string; readonly isPinned: boolean }[] {
  const invalid = new Set(context.models.invalid().map(({ slug }) => slug));
  return unusableModels(context)
    .map(({ model, message }) => ({ model, message, isPinned: context.config.pinnedModels?.includes(model) === true }))
    .filter(({ model, isPinned }) => isPinned || !invalid.has(model));
}

/** How many models that are meant to be served here are in which state. */
export function modelStates({ config, models }: Pick<WorkerContext, "config" | "models">): Readonly<Record<ModelState, number>> {
  const counts = { available: 0, missing: 0, corrupt: 0, unsupported: 0, unequipped: 0, invalid: invalidModels({ config, models }).length };
  for (const entry of models.list()) {
    if (isAskedFor(entry.manifest, config) && (namedModels(config).includes(entry.slug) || !isAbsent(entry))) counts[entry.state] += 1;
  }
  return counts;
}

type Problem = Omit<UnusableModel, "since">;

function unusableModels({ config, models }: Pick<WorkerContext, "config" | "models">): readonly Problem[] {
  const named = namedModels(config);
  const known = models.list();
  const damaged = known
    .filter((entry) => entry.state !== "available" && isAskedFor(entry.manifest, config))
    .filter((entry) => named.includes(entry.slug) || !isAbsent(entry))
    .map((entry) => problem(entry.slug, unusableError(entry)));
  const invalid = invalidModels({ config, models }).map(({ slug, error }) => problem(slug, error));
  const reported = new Set([...known, ...invalid.map(({ model: slug }) => ({ slug }))].map(({ slug }) => slug));
  const unknown = named
    .filter((slug) => !reported.has(slug))
    .map((slug): Problem => ({
      model: slug,
      code: "MODEL_NOT_FOUND",
      message: `model ${slug} is named in ${config.models?.includes(slug) === true ? "DRYAPI_MODELS" : "DRYAPI_PINNED_MODELS"} and has no manifest any more`,
    }));
  return [...damaged, ...invalid, ...unknown];
}

/** A manifest that overrides another one by its folder's name leaves that one in use. */
function invalidModels({ config, models }: Pick<WorkerContext, "config" | "models">): ReturnType<WorkerContext["models"]["invalid"]> {
  const known = new Set(models.list().map(({ slug }) => slug));
  return models.invalid().filter(({ slug }) => !known.has(slug) && (config.models?.includes(slug) ?? true));
}

function problem(model: string, { code, message }: AppError): Problem {
  return { model, code, message };
}

function shortened(message: string): string {
  return message.length > MAX_MESSAGE_CHARS ? `${message.slice(0, MAX_MESSAGE_CHARS)} ...` : message;
}
