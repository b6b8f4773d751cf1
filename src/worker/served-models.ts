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

/** What an operator should know of models that are meant to be served and are not: a sentence each, naming file or setting. */
export function unservedModels({ config, models }: Pick<WorkerContext, "config" | "models">): readonly string[] {
  const allowed = config.models;
  const known = [...models.list(), ...models.invalid()].map(({ slug }) => slug);
  // A manifest that came with the package and has no weights yet is no fault; invalid manifests are told by the scan.
  const wanted = models.list().filter(({ slug, state, shipped }) => allowed?.includes(slug) ?? (state === "corrupt" || !shipped));
  return [
    ...wanted.flatMap(({ slug, problems }) => problems.map(({ message }) => `model ${slug}: ${message}`)),
    ...(allowed ?? []).filter((slug) => !known.includes(slug)).map((slug) => `model ${slug} is named in DRYAPI_MODELS and has no manifest`),
  ];
}
