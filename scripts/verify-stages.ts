/**
 * `scripts/verify stages`: a model with Flux' edges and weights of nothing (1.4 GiB, or `--gib N`) makes pictures as a whole and by turns, in
 * processes with a runner's environment. By turns the process must not hold more than its largest stage and a tenth, beside what node and
 * onnxruntime take by themselves; a prompt that was seen must open no text encoder again. Prints what each way holds and costs.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { runnerEnv } from "../src/worker/runners/runner-env.ts";
import { writeLargeFlux } from "../test/support/large-flux.ts";

const run = promisify(execFile);
const MIB = 1024 ** 2;
/** Over the largest stage. */
const SLACK = 1.1;

interface Measured {
  readonly loadMs: number;
  readonly peakBytes: number;
  readonly wholeBytes: number;
  readonly largestStageBytes: number;
  readonly closedBytes: number;
  readonly baseBytes: number;
  readonly jobs: readonly {
    readonly prompt: string;
    readonly opened: readonly string[];
    readonly runMs: number;
    readonly sessionMs: number;
    readonly wakeMs: number;
    readonly parkMs: number;
  }[];
}

function say(line: string): void {
  process.stdout.write(`stages: ${line}\n`);
}

const mib = (bytes: number): string => `${Math.round(bytes / MIB)} MiB`;

async function measure(dir: string, mode: "all" | "turns", env: Readonly<Record<string, string>>): Promise<Measured> {
  const script = join(import.meta.dirname, "bench/staged-peak.ts");
  const { stdout } = await run(process.execPath, ["--expose-gc", script, dir, mode], { env });
  return JSON.parse(stdout) as Measured;
}

function report(name: string, { loadMs, peakBytes, closedBytes, baseBytes, jobs }: Measured): void {
  say(
    `${name}: peak ${mib(peakBytes)}, ${mib(closedBytes)} after its end, beside ${mib(baseBytes)} of the process; loaded in ${loadMs} ms`,
  );
  for (const { prompt, runMs, sessionMs, wakeMs, parkMs, opened } of jobs)
    say(
      `  prompt ${prompt}: ${runMs} ms, of which runs ${sessionMs}, opening ${wakeMs}, releasing ${parkMs}; opened ${opened.join(", ") || "nothing"}`,
    );
}

const at = process.argv.indexOf("--gib");
const scale = at < 0 ? 1 : Number(process.argv[at + 1]) / 1.4;
assert.ok(scale > 0, "--gib takes the size of the model");
const dir = await mkdtemp(join(tmpdir(), "verify-stages-"));
try {
  const scaled = (size: number): number => Math.round(size * scale) * MIB;
  await writeLargeFlux(dir, {
    text_encoder: scaled(64),
    text_encoder_2: scaled(512),
    transformer: scaled(768),
    vae_decoder: scaled(96),
  });
  const env = { ...runnerEnv(process.env, { kind: "cpu" }), NODE_NO_WARNINGS: "1" };
  const whole = await measure(dir, "all", env);
  say(`a model of ${mib(whole.wholeBytes)}, whose largest stage needs ${mib(whole.largestStageBytes)}`);
  report("as a whole", whole);
  const turns = await measure(dir, "turns", env);
  report("by turns", turns);
  const plain = Object.fromEntries(Object.entries(env).filter(([name]) => name !== "MALLOC_MMAP_THRESHOLD_"));
  report("by turns, with glibc's own bounds", await measure(dir, "turns", plain));
  assert.ok(whole.peakBytes > whole.wholeBytes * 0.9, "as a whole all weights are there: else this shows nothing");
  const bound = turns.largestStageBytes * SLACK;
  assert.ok(turns.peakBytes <= bound, `by turns the peak is ${mib(turns.peakBytes)}, expected at most ${mib(bound)}`);
  assert.deepEqual(turns.jobs.at(-1)?.opened, ["transformer", "vae_decoder"], "a prompt that was seen opens no text encoder");
  say(`by turns the peak is the largest stage and ${Math.round((turns.peakBytes / turns.largestStageBytes - 1) * 100)} %: ok`);
} finally {
  await rm(dir, { recursive: true, force: true });
}
