/** Copies what the compiler leaves behind into dist: the console's files. Part of `npm run build`. */
import { cp } from "node:fs/promises";
import { join } from "node:path";

const ROOT = join(import.meta.dirname, "..");
const FOLDER = join("gateway", "console", "assets");

await cp(join(ROOT, "src", FOLDER), join(ROOT, "dist", FOLDER), { recursive: true });
