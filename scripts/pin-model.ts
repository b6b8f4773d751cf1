/**
 * Fills sizeBytes and sha256 of the graphs and their external data in a folder's model.json from the files that lie in the folder.
 *
 *   node scripts/pin-model.ts models/tiny-flux-schnell [more folders]
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { sha256File } from "../src/lib/sha256-file.ts";
import { writeAtomic } from "../src/lib/write-atomic.ts";
import { parseManifest } from "../src/protocol/manifest.ts";

interface Pinned {
  file: string;
  sizeBytes?: number;
  sha256?: string;
}

interface PinnedPart extends Pinned {
  externalData?: Pinned[];
}

/** The manifest as it stands in the file, without the defaults that parsing adds, so that nothing else of it changes. */
interface ManifestFile {
  parts?: Record<string, PinnedPart>;
}

async function pinModel(dir: string): Promise<void> {
  const path = join(dir, "model.json");
  const manifest = JSON.parse(await readFile(path, "utf8")) as ManifestFile;
  parseManifest(manifest, path);
  for (const part of Object.values(manifest.parts ?? {})) {
    for (const pinned of [part, ...(part.externalData ?? [])]) Object.assign(pinned, await sha256File(join(dir, pinned.file)));
  }
  await writeAtomic(path, `${JSON.stringify(manifest, null, 2)}\n`);
  process.stdout.write(`${path}: pinned\n`);
}

const dirs = process.argv.slice(2);
if (dirs.length === 0) {
  process.stderr.write("usage: node scripts/pin-model.ts <model folder> ...\n");
  process.exitCode = 2;
}
for (const dir of dirs) await pinModel(dir);
