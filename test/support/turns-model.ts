import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

const FIXTURES = join(import.meta.dirname, "..", "fixtures", "ort");
/** Clock ticks of processor time (10 ms each): more than a runner spends between a stage's word and its run. */
const TICKS_OF_A_RUN = 50;

/** Turns of the graph's loop for each letter of a job's text. What `endless` asks for no machine comes to the end of. */
const LETTERS = { a: 1, b: 2, c: 3 } as const;
const ENDLESS = { z: 1e15 } as const;

/** A job's text whose run ends at once, after so many turns as its letters say, and one whose run never does. */
export const SHORT_TEXT = "abc";
export const SHORT_TURNS = 6;
export const ENDLESS_TEXT = "z";

/**
 * Settings of a daemon that serves a speech model of the family `vits` whose only graph is a loop (scripts/make-ort-fixtures.py): each job
 * is one native run, as long as its text says. `cosines` has small nodes and a result that can be reckoned, `layers` those of a large model.
 */
export async function turnsModel(
  dir: string,
  options: { readonly slug: string; readonly graph: "cosines" | "layers"; readonly batch?: number; readonly stageMs?: number },
): Promise<Readonly<Record<string, string>>> {
  const { slug, graph, batch = 1, stageMs = 600_000 } = options;
  const folder = join(dir, slug);
  await mkdir(folder, { recursive: true });
  await copyFile(join(FIXTURES, `${graph}.onnx`), join(folder, "model.onnx"));
  const files = {
    "vocab.json": { ...LETTERS, ...ENDLESS },
    "tokenizer_config.json": { add_blank: false },
    "config.json": { sampling_rate: 8000 },
    "model.json": {
      version: 1,
      slug,
      name: "Turns of a loop",
      family: "vits",
      status: "test_model",
      tasks: ["txt2audio"],
      license: { id: "Apache-2.0", commercial: true },
      source: { repository: "scripts/make-ort-fixtures.py" },
      parts: { model: { file: "model.onnx" } },
      languages: [{ name: "English", slug: "en-us", voices: [{ name: "Default", slug: "default", gender: "neutral" }] }],
      defaults: { speed: 1, sample_rate: 8000, format: "wav" },
      memoryBytes: { cpu: 200_000_000, cuda: 200_000_000 },
      batch: { max: batch },
      deadlines: { loadMs: 60_000, defaultMs: 60_000, stageMs: { speak: stageMs } },
    },
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), JSON.stringify(content));
  return { DRYAPI_MODELS_DIR: dir, DRYAPI_MODELS: slug, DRYAPI_TEST_MODELS: "on" };
}

/** Resolves once the runner that was told to speak ENDLESS_TEXT is in its run: it takes processor time as nothing else there does. */
export async function runUnderWay(pid: number): Promise<void> {
  const before = await ticksOf(pid);
  while ((await ticksOf(pid)) - before < TICKS_OF_A_RUN) await wait(10);
}

/** Processor time that a process has spent, clock ticks. Throws where there is no such process. */
async function ticksOf(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const [user, system] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13);
  return Number(user) + Number(system);
}
