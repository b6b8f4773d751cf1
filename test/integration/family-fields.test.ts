import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { FAMILY_FIELDS } from "../../src/core/family-fields.ts";
import { planSubmit } from "../../src/core/plan-submit.ts";
import { TASK_ROWS } from "../../src/core/task-fields.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import type { Task } from "../../src/protocol/task.ts";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { loadShipped, runJob } from "../support/pipeline-rig.ts";
import { wavOf } from "../support/whisper-audio.ts";

const PICTURE = new URL("init-128.png", FLUX_FIXTURES).pathname;
/** Written before the tests. */
const SOUND = "sound.wav";

interface Case {
  readonly slug: string;
  readonly task: Task;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly files?: Readonly<Record<string, string>>;
}

/** A small job for each family's tiny model, with every field that the model has. */
const CASES: readonly Case[] = [
  {
    slug: "tiny-flux-dev",
    task: "img2img",
    fields: {
      prompt: "fox",
      negative_prompt: "dog",
      true_cfg_scale: 2,
      width: 64,
      height: 64,
      steps: 2,
      guidance: 2,
      seed: 1,
      strength: 0.9,
    },
    files: { image: PICTURE },
  },
  {
    slug: "tiny-ltx-video",
    task: "img2video",
    fields: { prompt: "fox", negative_prompt: "dog", width: 64, height: 64, steps: 2, guidance: 2, frames: 9, fps: 8, seed: 1 },
    files: { first_frame_image: PICTURE },
  },
  {
    slug: "tiny-kokoro",
    task: "txt2audio",
    fields: { text: "Hello.", lang: "en-us", voice: "af_sky", speed: 1, format: "wav", sample_rate: 24_000 },
  },
  {
    slug: "tiny-vits",
    task: "txt2audio",
    fields: { text: "Hello.", lang: "en-us", voice: "default", speed: 1, format: "wav", sample_rate: 16_000 },
  },
  { slug: "tiny-musicgen", task: "txt2music", fields: { caption: "a flute", duration: 0.2, guidance_scale: 2, seed: 1, format: "wav" } },
  { slug: "tiny-whisper", task: "audiofile2txt", fields: { include_ts: true, return_result_in_response: true }, files: { audio: SOUND } },
];

/** Parameters that remember which of them were looked at. */
function watched(params: JobParams, seen: Set<string>): JobParams {
  return new Proxy(params, {
    get: (target, name) => {
      if (typeof name === "string") seen.add(name);
      return target[String(name)];
    },
  });
}

describe("what a family reads", () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "dryapi-family-"));
    await writeFile(join(dir, SOUND), wavOf(Int16Array.from({ length: 16_000 }, (_, at) => 8_000 * Math.sin(at / 8))));
  });
  after(() => rm(dir, { recursive: true }));

  for (const { slug, task, fields, files = {} } of CASES) {
    test(`${slug} loads with declared parameters, gets them, and reads what the table of families says`, async () => {
      const params = [{ name: "tiled", type: "boolean", default: false }, { name: "level", type: "integer", min: 1, max: 3 }, "style"];
      const own = await loadShipped(slug);
      await own.pipeline.close();
      const options = { ...own.manifest.options, params, passParams: true, prices: { [task]: 0.5 } };
      const { manifest, pipeline } = await loadShipped(slug, { options });
      try {
        const named = Object.keys(files).map((name) => ({ name }));
        const sent = { ...fields, level: "2", style: { ink: [1] }, other: "x" };
        const plan = planSubmit({ manifest, task, fields: sent, files: named, randomSeed: 1 });
        assert.ok(plan.ok, JSON.stringify(plan));
        assert.deepEqual(
          { ...plan.params, ...Object.fromEntries(Object.keys(fields).map((name) => [name, fields[name]])) },
          {
            ...fields,
            ...plan.params,
            tiled: false,
            level: 2,
            style: { ink: [1] },
            other: "x",
          },
        );
        assert.deepEqual(
          plan.ignored.toSorted(),
          ["level", "other", "style"],
          "taken as declared, and told that the family does not read them",
        );
        const tooMuch = planSubmit({ manifest, task, fields: { ...sent, level: 4 }, files: named, randomSeed: 1 });
        assert.ok(!tooMuch.ok && tooMuch.errors["level"] !== undefined);

        const outDir = join(dir, slug);
        await mkdir(outDir);
        const seen = new Set<string>();
        const inputs = Object.entries(files).map(([name, path]) => ({
          name,
          path: resolve(dir, path),
          contentType: path.endsWith(".png") ? "image/png" : "audio/wav",
        }));
        const { end } = await runJob(pipeline, { id: `family-${slug}`, task, params: watched(plan.params, seen), inputs, outDir });
        if (!end.ok) throw end.error;
        const table = FAMILY_FIELDS[manifest.family].reads;
        assert.ok(table !== null);
        // Files and addresses do not come as parameters.
        const read = TASK_ROWS[task].fields.map(({ name }) => name).filter((name) => seen.has(name));
        const promised = TASK_ROWS[task].fields.map(({ name }) => name).filter((name) => table.has(name));
        assert.deepEqual(read.toSorted(), promised.toSorted());
      } finally {
        await pipeline.close();
      }
    });
  }

  test("no family is left out", () => {
    const families = Object.entries(FAMILY_FIELDS).filter(([, { reads }]) => reads !== null).length;
    assert.equal(CASES.length, families);
  });
});
