import type { FileProblem } from "../../models/model-files.ts";
import type { Models } from "../../models/open-models.ts";
import { fail, ok, type Finding } from "./finding.ts";

/** The cheap look at every model, and whether what the settings name exists. */
export function checkModels(
  models: Models,
  wanted: { readonly models: readonly string[] | null; readonly pinnedModels: readonly string[] | null },
): readonly Finding[] {
  const findings: Finding[] = [];
  for (const model of models.list()) {
    if (wanted.models !== null && !wanted.models.includes(model.slug)) continue;
    if (model.state === "available") {
      findings.push(ok(`model ${model.slug}`, `${model.manifest.tasks.join(", ")} from ${model.dir}`));
      continue;
    }
    const isWanted = wanted.models?.includes(model.slug) === true || wanted.pinnedModels?.includes(model.slug) === true;
    if (model.shipped && model.state === "missing" && !isWanted) {
      // A manifest that came with the package, whose big files nobody brought here.
      findings.push(ok(`model ${model.slug}`, `not on this machine (${model.problems.length} file(s) missing)`));
      continue;
    }
    const fix = "fetch the files (`dryapi models verify` checks all of them), or leave the model out of DRYAPI_MODELS";
    findings.push(fail(`model ${model.slug}`, summary(model.problems), fix));
  }
  for (const { slug, error } of models.invalid())
    findings.push(fail(`model ${slug}`, error.message, "mend its model.json; `dryapi models schema` describes one"));
  for (const slug of new Set([...(wanted.models ?? []), ...(wanted.pinnedModels ?? [])])) {
    if (models.get(slug) !== undefined || models.invalid().some((model) => model.slug === slug)) continue;
    findings.push(
      fail(
        `model ${slug}`,
        "is named in the settings, but no folder has a model.json for it",
        "set DRYAPI_MODELS_DIR to the folder that holds it",
      ),
    );
  }
  if (!findings.some(({ level }) => level === "ok")) findings.push(fail("models", "none can be used", "add one to DRYAPI_MODELS_DIR"));
  return findings;
}

const SHOWN_PROBLEMS = 2;

function summary(problems: readonly FileProblem[]): string {
  const said = problems.slice(0, SHOWN_PROBLEMS).map(({ message }) => message);
  const more = problems.length - said.length;
  return said.join("; ") + (more > 0 ? `; and ${more} more` : "");
}
