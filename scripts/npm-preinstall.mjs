/**
 * Runs when npm 11 or older installs dryapi-worker as a package (npm 12, pnpm and bun run no install scripts of dependencies, and need none).
 * onnxruntime-node's own install script downloads some 250 MB of CUDA libraries and fails the whole installation where it cannot. They are
 * of a CUDA version of its choice; `dryapi fetch-cuda` brings ours. koffi's would compile it, and fail without a compiler, where its binary
 * is not among the optional packages that were installed; runners do without koffi then. npm runs all preinstall scripts before the first
 * install script, so this one makes the others skip unless somebody asks for them (ONNXRUNTIME_NODE_INSTALL, KOFFI_INSTALL). It never fails
 * an installation.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const MARK = "// dryapi-worker: skipped unless asked for, see its docs/install.md";
/** Install scripts, from the folder of what `require` of the package resolves to. */
const SCRIPTS = [
  { name: "onnxruntime-node", path: "../script/install.js", variable: "ONNXRUNTIME_NODE_INSTALL" },
  { name: "koffi", path: "cnoke.cjs", variable: "KOFFI_INSTALL" },
];

// In a checkout .npmrc and scripts/setup see to it.
if (root.includes(`${sep}node_modules${sep}`)) {
  for (const script of SCRIPTS) {
    try {
      if (!projectUses(script.name)) guard(script);
    } catch (error) {
      console.error(`dryapi-worker: ${script.name}'s install script could not be made to skip: ${String(error)}`);
    }
  }
}

function guard({ name, path, variable }) {
  const script = join(dirname(createRequire(import.meta.url).resolve(name)), path);
  const text = readFileSync(script, "utf8");
  if (text.includes(MARK)) return;
  const lines = `${MARK}\nif (!process.env.${variable} && !process.env.npm_config_${variable.toLowerCase()}) process.exit(0);\n`;
  const [shebang = ""] = /^#!.*\n/.exec(text) ?? [];
  // A new file in the old one's place: where a package manager links files from its store, the store's own must stay as it is.
  const partial = `${script}.partial`;
  writeFileSync(partial, shebang + lines + text.slice(shebang.length));
  renameSync(partial, script);
}

/** A project with a use of its own for the package shares this copy of it: what is installed there is for that project to say. */
function projectUses(name) {
  const prefix = process.env.npm_config_local_prefix;
  if (prefix === undefined || process.env.npm_config_global === "true") return false;
  const path = join(prefix, "package.json");
  // In an empty folder npm writes one only at the end.
  if (!existsSync(path)) return false;
  const project = JSON.parse(readFileSync(path, "utf8"));
  return ["dependencies", "devDependencies", "optionalDependencies"].some((kind) => name in (project[kind] ?? {}));
}
