import { closest } from "../lib/closest.ts";
import { AppError } from "../protocol/error.ts";
import { namedModels, type ModelWishes } from "./asked-for.ts";
import type { Models } from "./open-models.ts";

/** More are not listed: `dryapi models list` has them all. */
const MAX_LISTED = 20;

type Named = Pick<ModelWishes, "models" | "pinnedModels">;
type Known = Pick<Models, "get" | "idleDirs" | "invalid" | "list">;

/** What is to be said of each name in the settings that no manifest here has; empty when all are known. */
export function unknownNames(wishes: Named, models: Known): readonly { readonly slug: string; readonly message: string }[] {
  const known = models.list().map(({ slug }) => slug);
  const invalid = models.invalid().map(({ slug }) => slug);
  return namedModels(wishes)
    .filter((slug) => !known.includes(slug) && !invalid.includes(slug))
    .map((slug) => {
      const setting = wishes.models?.includes(slug) === true ? "DRYAPI_MODELS" : "DRYAPI_PINNED_MODELS";
      const near = closest(slug, known);
      return {
        slug,
        message: `${setting} names ${slug}, of which there is no manifest here${near === null ? "" : `; did you mean ${near}?`}`,
      };
    });
}

/**
 * Refuses names that no manifest has. A model whose files are not there yet is known by its manifest, and passes.
 * @throws AppError CONFIG_INVALID; MODEL_NOT_FOUND where a folder of DRYAPI_MODELS_DIR gives nothing: its disk may not be mounted yet, so a
 * later start may go well
 */
export function checkNamedModels(wishes: Named, models: Known): void {
  const unknown = unknownNames(wishes, models);
  if (unknown.length === 0) return;
  const idle = [...models.idleDirs()].map(([dir, problem]) => `folder ${dir} of DRYAPI_MODELS_DIR ${problem}`);
  const lines = [...unknown.map(({ message }) => message), `models here: ${listed(models)}`, ...idle];
  throw new AppError(
    idle.length > 0 ? "MODEL_NOT_FOUND" : "CONFIG_INVALID",
    `models are named that are not known:\n  ${lines.join("\n  ")}`,
  );
}

/** Test models last: they are hardly what was meant. */
function listed(models: Known): string {
  const rank = (status: string): number => (status === "test_model" ? 1 : 0);
  const slugs = models
    .list()
    .toSorted((a, b) => rank(a.manifest.status) - rank(b.manifest.status))
    .map(({ slug }) => slug);
  const more = slugs.length - MAX_LISTED;
  return `${slugs.slice(0, MAX_LISTED).join(", ") || "none"}${more > 0 ? ` and ${more} more` : ""}`;
}
