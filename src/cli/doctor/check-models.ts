import { isAskedFor, namedModels, type ModelWishes } from "../../models/asked-for.ts";
import { unknownNames } from "../../models/check-named-models.ts";
import type { FileProblem } from "../../models/model-files.ts";
import type { Models } from "../../models/open-models.ts";
import { isAbsent, type ModelEntry, type ModelState } from "../../models/scan-models.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

/** The cheap look at every model that is asked for, and whether what the settings name exists. */
export function checkModels(models: Pick<Models, "get" | "idleDirs" | "invalid" | "list">, wishes: ModelWishes): readonly Finding[] {
  const asked = models.list().filter(({ manifest }) => isAskedFor(manifest, wishes));
  const findings = [...models.idleDirs()].map(([dir, problem]) =>
    warn("model folder", `${dir} ${problem}`, "mount it, or set DRYAPI_MODELS_DIR to the folder above those of the models"),
  );
  findings.push(...asked.map((model) => checkModel(model, namedModels(wishes).includes(model.slug))));
  for (const { slug, error } of models.invalid())
    findings.push(fail(`model ${slug}`, error.message, "mend its model.json; `dryapi models schema` describes one"));
  for (const { slug, message } of unknownNames(wishes, models))
    findings.push(fail(`model ${slug}`, message, "correct the name, or set DRYAPI_MODELS_DIR to the folder that holds the model"));
  const isTest = (model: ModelEntry): boolean => model.manifest.status === "test_model";
  const unasked = models.list().filter((model) => isTest(model) && !asked.includes(model)).length;
  if (unasked > 0)
    findings.push(
      ok(
        "test models",
        `${unasked} are here and not served: DRYAPI_TEST_MODELS=on, as \`dryapi up\` has it, or their names in DRYAPI_MODELS ask for them`,
      ),
    );
  if (!asked.some(({ state }) => state === "available"))
    findings.push(
      warn(
        "models",
        "none that is asked for can be used: a worker would serve nothing and not be ready",
        "put one into a folder of DRYAPI_MODELS_DIR",
      ),
    );
  return findings;
}

function checkModel(model: ModelEntry, isNamed: boolean): Finding {
  const check = `model ${model.slug}`;
  if (model.state === "available") return ok(check, `${model.manifest.tasks.join(", ")} from ${model.dir}`);
  // A manifest that came with the package, whose big files nobody brought here.
  if (!isNamed && isAbsent(model)) return ok(check, `not on this machine (${model.problems.length} file(s) missing)`);
  const isUnfit = model.problems.some(({ kind }) => kind === "memory");
  return fail(check, `${model.state}: ${summary(model.problems)}`, isUnfit ? `as it says, ${LEAVE_OUT}` : FIXES[model.state]);
}

const LEAVE_OUT = "or leave the model out of DRYAPI_MODELS";
const FIXES: Readonly<Record<Exclude<ModelState, "available">, string>> = {
  missing: `fetch the files that are named, ${LEAVE_OUT}; a running worker serves the model within 30 s, or at once after SIGHUP`,
  corrupt: `fetch the files that are named again (\`dryapi models verify <slug>\` checks every bit of them), ${LEAVE_OUT}`,
  unsupported: `take an export that fits docs/families.md, or map its names in model.json (\`dryapi models inspect\` shows them), ${LEAVE_OUT}`,
  unequipped: "install what is named; a running worker serves the model within 30 s, or at once after SIGHUP",
  invalid: "mend its model.json; `dryapi models schema` describes one",
};

const SHOWN_PROBLEMS = 2;

function summary(problems: readonly FileProblem[]): string {
  const said = problems.slice(0, SHOWN_PROBLEMS).map(({ message }) => message);
  const more = problems.length - said.length;
  return said.join("; ") + (more > 0 ? `; and ${more} more` : "");
}
