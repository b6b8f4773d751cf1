/**
 * Runs when npm 11 or older installs dryapi-worker as a package (npm 12, pnpm and bun run no install scripts of dependencies, and need none).
 * onnxruntime-node's own install script downloads some 250 MB of CUDA libraries and fails the whole installation where it cannot. They are
 * of a CUDA version of its choice; `dryapi fetch-cuda` brings ours. npm runs all preinstall scripts before the first postinstall script,
 * so this one makes the other skip unless somebody asks for it (ONNXRUNTIME_NODE_INSTALL). It never fails an installation.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const MARK = "// dryapi-worker: skipped unless asked for, see its docs/install.md";
const GUARD = `${MARK}
if (!process.env.ONNXRUNTIME_NODE_INSTALL && !process.env.npm_config_onnxruntime_node_install) process.exit(0);
`;

try {
  // In a checkout .npmrc and scripts/setup see to it.
  if (root.includes(`${sep}node_modules${sep}`) && !projectUsesIt()) guard();
} catch (error) {
  console.error(`dryapi-worker: onnxruntime-node's install script could not be made to skip its download: ${String(error)}`);
}

function guard() {
  const script = join(dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json")), "script", "install.js");
  const text = readFileSync(script, "utf8");
  if (text.includes(MARK)) return;
  // A new file in the old one's place: where a package manager links files from its store, the store's own must stay as it is.
  const partial = `${script}.partial`;
  writeFileSync(partial, GUARD + text);
  renameSync(partial, script);
}

/** A project with a use of its own for onnxruntime-node shares this copy of it: what is installed there is for that project to say. */
function projectUsesIt() {
  const prefix = process.env.npm_config_local_prefix;
  if (prefix === undefined || process.env.npm_config_global === "true") return false;
  const path = join(prefix, "package.json");
  // In an empty folder npm writes one only at the end.
  if (!existsSync(path)) return false;
  const project = JSON.parse(readFileSync(path, "utf8"));
  return ["dependencies", "devDependencies", "optionalDependencies"].some((kind) => "onnxruntime-node" in (project[kind] ?? {}));
}
