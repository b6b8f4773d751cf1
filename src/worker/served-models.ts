import type { WorkerContext } from "./worker-context.ts";

/**
 * Slugs whose jobs this worker takes: complete on disk and allowed by DRYAPI_MODELS. Models of the fake family crash runners on purpose,
 * so they are served only when that list names them.
 */
export function servedModels({ config, models }: Pick<WorkerContext, "config" | "models">): readonly string[] {
  const allowed = config.models;
  return models
    .list()
    .filter(({ state, slug, manifest }) => state === "available" && (allowed?.includes(slug) ?? manifest.family !== "fake"))
    .map(({ slug }) => slug);
}
