import { mkdtempSync, rmSync } from "node:fs";
import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { isOnDevice, type Backend, type Feed, type Session, type Tensor } from "../../src/pipelines/backend.ts";
import { createFluxPipeline } from "../../src/pipelines/flux/flux-pipeline.ts";
import type { JobEnd, Pipeline, RunContext } from "../../src/pipelines/pipeline.ts";
import type { RunnerJob } from "../../src/protocol/ipc.ts";
import type { JobParams } from "../../src/protocol/job.ts";
import { parseManifest, type Manifest } from "../../src/protocol/manifest.ts";
import { BatchContext } from "../../src/runner/run-context.ts";
import { openTestBackend, TEST_DEVICE } from "./test-device.ts";

export const MODELS: URL = new URL("../../models/", import.meta.url);
export const FLUX_FIXTURES: URL = new URL("../fixtures/flux/", import.meta.url);

/** A golden of the real diffusers pipeline; arrays where the case is a batch. */
export interface GoldenCase {
  readonly model: string;
  readonly task: "txt2img" | "img2img";
  readonly prompt: string | readonly string[];
  readonly width: number;
  readonly height: number;
  readonly steps: number;
  readonly guidance: number;
  readonly seed: number | readonly number[];
  readonly strength?: number;
  readonly image?: string;
  readonly clip_ids: readonly number[] | readonly (readonly number[])[];
  readonly t5_ids: readonly number[] | readonly (readonly number[])[];
  readonly sigmas: readonly number[];
  readonly timesteps: readonly number[];
  /** states (start and after each step), rows, tokens, features */
  readonly latent_shape: readonly [number, number, number, number];
}

export interface Golden {
  readonly name: string;
  readonly case: GoldenCase;
  /** One after the other: start, after step 1, after step 2 ...; each `[rows, tokens, features]`. */
  readonly latents: readonly Float32Array[];
  /** One per row. */
  readonly pictures: readonly Buffer[];
}

export async function readGoldens(): Promise<readonly Golden[]> {
  const entries = await readdir(FLUX_FIXTURES, { withFileTypes: true, recursive: true });
  const found = entries.filter((entry) => entry.name === "case.json").map((entry) => entry.parentPath);
  return Promise.all(found.toSorted().map(readGolden));
}

async function readGolden(dir: string): Promise<Golden> {
  const golden = JSON.parse(await readFile(join(dir, "case.json"), "utf8")) as GoldenCase;
  const [states, rows, tokens, features] = golden.latent_shape;
  const bytes = await readFile(join(dir, "latents.f32"));
  const size = rows * tokens * features;
  const all = new Float32Array(Uint8Array.from(bytes).buffer);
  if (all.length !== states * size) throw new Error(`${dir}/latents.f32 has ${all.length} values, case.json says ${states * size}`);
  const names = Array.isArray(golden.prompt) ? golden.prompt.map((_, row) => `image-${row}.png`) : ["image.png"];
  return {
    name: dir.split("/").at(-1) ?? dir,
    case: golden,
    latents: Array.from({ length: states }, (_, state) => all.subarray(state * size, (state + 1) * size)),
    pictures: await Promise.all(names.map((name) => pixelsOf(join(dir, name)))),
  };
}

export async function pixelsOf(path: string): Promise<Buffer> {
  return sharp(path).removeAlpha().raw().toBuffer();
}

export async function readManifest(slug: string): Promise<Manifest> {
  const path = new URL(`${slug}/model.json`, MODELS);
  return parseManifest(JSON.parse(await readFile(path, "utf8")), path.pathname);
}

/** Every call of every session, in order: what went in and what came out. Copies, since pipelines reuse memory. */
export interface Call {
  readonly path: string;
  readonly feeds: Readonly<Record<string, Tensor>>;
}

/** A graph that was opened, or released. */
export interface Life {
  readonly path: string;
  readonly opened: boolean;
}

type Spoil = (path: string, results: Record<string, Tensor>) => void;

/** The real onnxruntime backend, recording what is fed. `spoil` may change results, for failures that no small model has. */
export function recordingBackend(calls: Call[], spoil?: Spoil, lives: Life[] = []): Backend {
  const backend = openTestBackend();
  return {
    guard: (signal) => backend.guard(signal),
    open: async (path) => {
      const session = recordingSession(await backend.open(path), path, calls, spoil);
      lives.push({ path, opened: true });
      const release = async (): Promise<void> => {
        await session.release();
        lives.push({ path, opened: false });
      };
      return {
        ...session,
        get runMs() {
          return session.runMs;
        },
        get traffic() {
          return session.traffic;
        },
        release,
      };
    },
  };
}

function recordingSession(session: Session, path: string, calls: Call[], spoil?: Spoil): Session {
  const record = (feeds: Readonly<Record<string, Feed>>): void => {
    calls.push({
      path,
      feeds: Object.fromEntries(Object.entries(feeds).flatMap(([name, feed]) => (isOnDevice(feed) ? [] : [[name, structuredClone(feed)]]))),
    });
  };
  return {
    inputs: session.inputs,
    outputs: session.outputs,
    get runMs() {
      return session.runMs;
    },
    get traffic() {
      return session.traffic;
    },
    async run(feeds) {
      record(feeds);
      const results = { ...(await session.run(feeds)) };
      spoil?.(path, results);
      return results;
    },
    bind() {
      const binding = session.bind();
      const feeds: Record<string, Feed> = {};
      return {
        input(name, value) {
          feeds[name] = value;
          binding.input(name, value);
        },
        output: (name, target) => binding.output(name, target),
        async run() {
          record(feeds);
          const { host, device } = await binding.run();
          const results = { ...host };
          spoil?.(path, results);
          return { host: results, device };
        },
        [Symbol.dispose]: () => binding[Symbol.dispose](),
      };
    },
    release: () => session.release(),
  };
}

export interface FluxRig extends AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly guard: Backend["guard"];
  readonly calls: Call[];
  readonly lives: Life[];
  readonly stages: string[];
}

export interface OpenRigOptions {
  readonly manifest: Manifest;
  readonly modelDir: string;
  readonly embeddingCacheBytes?: number;
  readonly budgetBytes?: number;
  readonly spoil?: (path: string, results: Record<string, Tensor>) => void;
}

export async function openFluxRig(options: OpenRigOptions): Promise<FluxRig> {
  const calls: Call[] = [];
  const stages: string[] = [];
  const lives: Life[] = [];
  const backend = recordingBackend(calls, options.spoil, lives);
  const pipeline = await createFluxPipeline({
    manifest: options.manifest,
    modelDir: options.modelDir,
    device: TEST_DEVICE,
    backend,
    previews: true,
    embeddingCacheBytes: options.embeddingCacheBytes ?? 0,
    budgetBytes: options.budgetBytes ?? null,
    stage: (name) => stages.push(name),
  });
  return { pipeline, guard: (signal) => backend.guard(signal), calls, lives, stages, [Symbol.asyncDispose]: () => pipeline.close() };
}

export async function openTinyRig(slug: string, options: Partial<OpenRigOptions> = {}): Promise<FluxRig> {
  return openFluxRig({ manifest: await readManifest(slug), modelDir: new URL(slug, MODELS).pathname, ...options });
}

/** Output folders of all jobs of this process; they go with it. */
const outRoot = mkdtempSync(join(tmpdir(), "flux-out-"));
process.once("exit", () => rmSync(outRoot, { recursive: true, force: true }));

export async function fluxJob(id: string, params: JobParams, image?: string): Promise<RunnerJob> {
  const outDir = await mkdtemp(join(outRoot, "job-"));
  const inputs = image === undefined ? [] : [{ name: "image", path: image, contentType: "image/png" }];
  return { id, task: image === undefined ? "txt2img" : "img2img", params, inputs, outDir };
}

/** A RunContext that records, and cancels when told to: runs of `guard`'s backend as a runner does. */
export class RecordingContext implements RunContext {
  readonly stages: string[] = [];
  readonly progressed: {
    readonly id: string;
    readonly fraction: number;
    readonly stage: string;
    readonly step: number;
    readonly steps: number;
  }[] = [];
  readonly previews: { readonly id: string; readonly jpeg: Uint8Array; readonly step: number }[] = [];
  readonly ends: Map<string, JobEnd> = new Map<string, JobEnd>();
  readonly #cancelled = new Set<string>();
  readonly #rendering = new Map<string, Promise<void>>();
  readonly #batch: BatchContext;
  /** Called at every stage, before its work: the place to cancel from. */
  onStage: (name: string, count: number) => void = () => undefined;

  constructor(guard: Backend["guard"] = () => undefined) {
    const nothing = (): void => undefined;
    const isOpen = (id: string): boolean => !this.ends.has(id);
    this.#batch = new BatchContext({ send: nothing, say: nothing, previews: false, cancelled: this.#cancelled, isOpen, guard });
  }

  cancel(id: string): void {
    this.#cancelled.add(id);
    this.#batch.review();
  }

  stage(name: string, ids: readonly string[]): void {
    this.#batch.stage(name, ids);
    this.stages.push(name);
    this.onStage(name, this.stages.filter((other) => other === name).length);
  }

  cancelled(id: string): boolean {
    return this.#cancelled.has(id);
  }

  progress(id: string, at: { readonly fraction: number; readonly stage: string; readonly step: number; readonly steps: number }): void {
    this.progressed.push({ id, ...at });
  }

  preview(id: string, step: number, render: () => Uint8Array | Promise<Uint8Array>): void {
    if (this.#rendering.has(id)) return;
    const rendering = Promise.resolve(render()).then((jpeg) => {
      this.previews.push({ id, jpeg, step });
      this.#rendering.delete(id);
    });
    this.#rendering.set(id, rendering);
  }

  /** Settles when all previews are there. */
  async settled(): Promise<void> {
    await Promise.all(this.#rendering.values());
  }

  readonly end = (id: string, end: JobEnd): void => {
    if (this.ends.has(id)) throw new Error(`job ${id} ended twice`);
    this.ends.set(id, end);
    this.#batch.review();
  };
}

export function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs((actual[i] ?? NaN) - (expected[i] ?? NaN));
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/** What a test knows to be there. */
export function present<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("a value that the test relies on is not there");
  return value;
}
