import { join } from "node:path";
import type { Config } from "./config.ts";

/** Where `dryapi models pull` puts models while DRYAPI_MODELS_DIR names no folder; there from the first pull on. */
export function pulledModelsDir({ stateDir }: Pick<Config, "stateDir">): string {
  return join(stateDir, "models");
}
