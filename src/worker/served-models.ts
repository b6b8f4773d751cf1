import { isAskedFor } from "../models/asked-for.ts";
import type { WorkerContext } from "./worker-context.ts";

/** Slugs whose jobs this worker takes: complete on disk and asked for. */
export function servedModels({ config, models }: Pick<WorkerContext, "config" | "models">): readonly string[] {
  return models
    .list()
    .filter(({ state, manifest }) => state === "available" && isAskedFor(manifest, config))
    .map(({ slug }) => slug);
}
