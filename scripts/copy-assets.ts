/** Copies what the compiler leaves behind into dist: the files of the console and of /docs. Part of `npm run build`. */
import { cp } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const FOLDERS = [join("gateway", "console", "assets"), join("gateway", "docs", "assets")];

for (const folder of FOLDERS) await cp(join(ROOT, "src", folder), join(ROOT, "dist", folder), { recursive: true });
