import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";

/** Settings of a daemon that serves so many models of the fake family, each under a name and a queue of its own. */
export async function manyFakeModels(dir: string, count: number): Promise<Readonly<Record<string, string>>> {
  const slugs = Array.from({ length: count }, (_, index) => `many-${String(index + 1).padStart(2, "0")}`);
  for (const slug of slugs) {
    const folder = join(dir, slug);
    await mkdir(folder, { recursive: true });
    const manifest = {
      version: 1,
      slug,
      name: `One of ${count}`,
      family: "fake",
      status: "test_model",
      tasks: ["txt2img"],
      license: { id: "Apache-2.0", commercial: true },
      source: { repository: "test" },
      memoryBytes: { cpu: 1 },
    };
    await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
  }
  return { DRYAPI_MODELS_DIR: dir, DRYAPI_MODELS: slugs.join(","), DRYAPI_TEST_MODELS: "on" };
}
