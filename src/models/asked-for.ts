import type { Manifest } from "../protocol/manifest.ts";

/** What the settings say about which models are served. */
export interface ModelWishes {
  /** DRYAPI_MODELS; null = all but test models. */
  readonly models: readonly string[] | null;
  /** DRYAPI_PINNED_MODELS. */
  readonly pinnedModels: readonly string[] | null;
  /** DRYAPI_TEST_MODELS. */
  readonly testModels: boolean;
}

/**
 * Whether a model is meant to be served here, be it whole or not. Naming a model asks for it. Test models that nobody names are for tests
 * and demos alone: their weights are random. Those of the fake family crash runners on purpose, so only a name asks for them.
 */
export function isAskedFor({ slug, family, status }: Pick<Manifest, "slug" | "family" | "status">, wishes: ModelWishes): boolean {
  if (wishes.models !== null) return wishes.models.includes(slug);
  if (wishes.pinnedModels?.includes(slug) === true) return true;
  if (family === "fake") return false;
  return status !== "test_model" || wishes.testModels;
}

/** The slugs that the settings name, each once. */
export function namedModels({ models, pinnedModels }: Pick<ModelWishes, "models" | "pinnedModels">): readonly string[] {
  return [...new Set([...(models ?? []), ...(pinnedModels ?? [])])];
}
