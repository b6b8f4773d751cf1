import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { TASK_NAMES, type Task } from "../../src/protocol/task.ts";

/** The small models that are real, one at least for most tasks. */
const TINY = ["tiny-flux-schnell", "tiny-flux-dev", "tiny-kokoro", "tiny-vits", "tiny-musicgen", "tiny-whisper", "tiny-ltx-video"];
const THEIRS: ReadonlySet<Task> = new Set<Task>([
  "txt2img",
  "img2img",
  "txt2video",
  "img2video",
  "txt2audio",
  "txt2music",
  "audiofile2txt",
  "videofile2txt",
  "aud2txt",
  "vid2txt",
]);

/** Settings of a system that has a model for every task: a fake one has those that no small model does. */
export async function modelsForAllTasks(dir: string): Promise<Readonly<Record<string, string>>> {
  const folder = join(dir, "rest");
  await mkdir(folder, { recursive: true });
  const manifest = {
    version: 1,
    slug: "rest",
    name: "The tasks of later models",
    family: "fake",
    status: "test_model",
    tasks: TASK_NAMES.filter((task) => !THEIRS.has(task)),
    license: { id: "Apache-2.0", commercial: true },
    source: { repository: "test" },
    limits: { max_frames: 120, max_input_images: 2 },
    features: { supports_steps: true, supports_last_frame: true },
    defaults: { fps: 30 },
    memoryBytes: { cpu: 1 },
  };
  await writeFile(join(folder, "model.json"), JSON.stringify(manifest));
  return { DRYAPI_MODELS_DIR: dir, DRYAPI_MODELS: [...TINY, "rest"].join(",") };
}
