import type { JobOutput } from "../../src/protocol/ipc.ts";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JobParams } from "../../src/protocol/job.ts";
import type { Task } from "../../src/protocol/task.ts";
import { loadShipped, runJob } from "../../test/support/pipeline-rig.ts";
import { inChild } from "./in-child.ts";
import { row, type Row } from "./row.ts";

const TEXT = "The lighthouse keeper counted twenty waves and then went up to light the lamp. ".repeat(20);
const SPEECH = { text: TEXT, lang: "en-us", speed: 1, format: "mp3", sample_rate: 24_000 };

/**
 * Speech, music and transcription, in this process: all of a job (phonemes, tokens, files, ffmpeg) over its session runs alone. The models
 * are tiny, so that what is not a session run weighs far more than it does with real ones.
 */
export async function soundRows(): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const [name, slug, task, params] of [
    ["speech, VITS", "tiny-vits", "txt2audio", SPEECH],
    ["speech, Kokoro", "tiny-kokoro", "txt2audio", SPEECH],
    ["music, MusicGen", "tiny-musicgen", "txt2music", { caption: "drums", duration: 10, format: "mp3", seed: 1 }],
  ] as const) {
    const { inputMs, runMs, encodeMs, sessionMs, info } = await outputOf(slug, task, params);
    const seconds = Number(info["duration_s"]);
    const ms = inputMs + runMs + encodeMs;
    rows.push(
      row({ name: `${name}: a job over its session runs`, unit: "ms", ours: ms, bare: sessionMs }),
      row({ name: `${name}: seconds of sound a second`, unit: "s/s", ours: (seconds * 1_000) / ms }),
    );
  }
  const [short, long] = [await transcriptionOf(1), await transcriptionOf(10)];
  return [
    ...rows,
    row({ name: "transcription of 10 minutes over its session runs", unit: "ms", ours: long.ms, bare: long.sessionMs }),
    row({ name: "transcription: seconds of sound a second", unit: "s/s", ours: 600_000 / long.ms }),
    row({
      name: "peak RSS, transcription of 10 minutes over one of 1 minute",
      unit: "MiB",
      ours: long.peakBytes / 2 ** 20,
      bare: short.peakBytes / 2 ** 20,
      goal: { text: "does not grow (<= 1.1)", met: ({ ratio }) => ratio <= 1.1 },
    }),
  ];
}

/** Of the second of two equal jobs: the first one warms up. */
async function outputOf(slug: string, task: Task, params: JobParams): Promise<JobOutput> {
  const { pipeline } = await loadShipped(slug);
  const outDir = await mkdtemp(join(tmpdir(), "sound-bench-"));
  try {
    const job = { id: "bench", task, params, inputs: [], outDir };
    await runJob(pipeline, job);
    const { end } = await runJob(pipeline, job);
    if (!end.ok) throw end.error;
    return end.output;
  } finally {
    await pipeline.close();
    await rm(outDir, { recursive: true, force: true });
  }
}

interface Transcription {
  readonly peakBytes: number;
  readonly ms: number;
  readonly sessionMs: number;
}

function transcriptionOf(minutes: number): Promise<Transcription> {
  return inChild<Transcription>("transcription-peak.ts", minutes);
}
