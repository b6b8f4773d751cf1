import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Config } from "./config.ts";

/** Where `dryapi models pull` puts models while DRYAPI_MODELS_DIR names no folder. */
export function pulledModelsDir({ stateDir }: Pick<Config, "stateDir">): string {
  return join(stateDir, "models");
}

/** Folders with models, in order of precedence: those of the operator, and what was pulled. */
export function modelFolders(config: Pick<Config, "modelsDirs" | "stateDir">): readonly string[] {
  const pulled = pulledModelsDir(config);
  return config.modelsDirs.includes(pulled) || !existsSync(pulled) ? config.modelsDirs : [...config.modelsDirs, pulled];
}
