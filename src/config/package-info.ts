import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The package's folder: two levels up from here, in a checkout (src/config) as in an installation (dist/config). */
export const PACKAGE_DIR: string = join(import.meta.dirname, "..", "..");

/** Models that come with the package. */
export const SHIPPED_MODELS_DIR: string = join(PACKAGE_DIR, "models");

let version: string | undefined;

export function packageVersion(): string {
  version ??= (JSON.parse(readFileSync(join(PACKAGE_DIR, "package.json"), "utf8")) as { version: string }).version;
  return version;
}
