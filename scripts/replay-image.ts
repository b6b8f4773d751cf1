/**
 * Carries out Dockerfile.cuda with this machine's own files in place of the base images, without a network, and checks both targets. Then
 * again with each COPY line left out in turn: each time something must fail. Needs root. Prints one JSON object; exit 1 when a step fails.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { readContext } from "../test/support/image/build-context.ts";
import { parseDockerfile } from "../test/support/image/dockerfile.ts";
import { checkImage, type ImageSizes } from "../test/support/image/image-checks.ts";
import { Layers } from "../test/support/image/layers.ts";
import { inOwnNamespaces } from "../test/support/image/own-namespaces.ts";
import { Replay } from "../test/support/image/replay.ts";
import { hostBases } from "../test/support/image/stand-ins.ts";

const ROOT = join(import.meta.dirname, "..");
const FILE = "Dockerfile.cuda";

await inOwnNamespaces(async (dir) => {
  const layers = await Layers.open(dir);
  const context = await readContext(ROOT, FILE);
  const bases = await hostBases(layers, ROOT, dir);
  const text = await readFile(join(ROOT, FILE), "utf8");

  const build = async (dockerfile: string): Promise<Record<string, ImageSizes>> => {
    const replay = new Replay({ dockerfile: parseDockerfile(FILE, dockerfile), context, layers, ...bases });
    // No name for the default target: it must be the one for CUDA.
    return {
      cpu: await checkImage(layers, bases, await replay.image("cpu"), "cpu"),
      cuda: await checkImage(layers, bases, await replay.image(), "cuda"),
    };
  };

  const targets = await build(text);
  const without: { line: number; text: string; error: string | null }[] = [];
  const lines = text.split("\n");
  for (const [index, line] of lines.entries()) {
    if (!line.startsWith("COPY ")) continue;
    const error = await build(lines.with(index, "").join("\n")).then(
      () => null,
      (thrown: unknown) => (thrown as Error).message,
    );
    without.push({ line: index + 1, text: line, error });
  }
  process.stdout.write(`${JSON.stringify({ targets, without })}\n`);
});
