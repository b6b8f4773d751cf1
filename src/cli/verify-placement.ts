import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readConfig } from "../config/config.ts";
import { planSubmit } from "../core/plan-submit.ts";
import { smallestRequest } from "../core/smallest-request.ts";
import type { ModelEntry } from "../models/scan-models.ts";
import { AppError, fromErrorData } from "../protocol/error.ts";
import { EXECUTION_PROVIDERS, type GraphPlacement } from "../protocol/ipc.ts";
import type { DeviceKind } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import { detectDevices, type DetectedDevice } from "../worker/devices/devices.ts";
import { describeLeftOver, leftOver } from "../worker/runners/node-placement.ts";
import { onnxruntimeSettings } from "../worker/runners/onnxruntime-settings.ts";
import { startRunner, type RunnerProcess } from "../worker/runners/runner-process.ts";
import { formatMs, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

const STOP_GRACE_MS = 10_000;

export interface ModelPlacement {
  readonly device: string;
  readonly loadMs: number;
  /** None for a family without native code. */
  readonly graphs: readonly GraphPlacement[];
  /** Of the smallest request that the limits allow; absent where none was asked for, or all tasks need a picture. */
  readonly job?: SmallestRun;
}

interface SmallestRun {
  readonly task: Task;
  readonly ms: number;
  /** That it made. */
  readonly files: number;
}

/** The first device of a kind. @throws AppError DEVICE_UNAVAILABLE that says what is missing */
export async function firstDevice(kind: Parameters<typeof detectDevices>[0], env: Env): Promise<DetectedDevice> {
  const [device] = await detectDevices(kind, { env });
  if (device === undefined) throw new AppError("DEVICE_UNAVAILABLE", `device ${kind} was asked for, but this machine has none`);
  return device;
}

/**
 * Loads a model on a device as the daemon does, in a runner of its own, and tells which provider got which nodes.
 * @param withJob also runs the smallest request that the model's limits allow
 * @throws AppError DEVICE_UNAVAILABLE and so on of the load and the job, and where the runtime does not tell
 */
export async function placeModel(model: ModelEntry, device: DetectedDevice, env: Env, withJob = false): Promise<ModelPlacement> {
  await using runner = await startRunner({
    manifest: model.manifest,
    modelDir: model.dir,
    device,
    previews: false,
    embeddingCacheBytes: 0,
    cancelGraceMs: 1_000,
    placement: true,
    env,
    ...onnxruntimeSettings(readConfig(env)),
    log: { debug: () => undefined, warn: () => undefined },
  });
  const { loadMs, providers, placement } = await runner.ready;
  const job = withJob ? await runSmallest(runner, model) : null;
  await runner.stop({ graceMs: STOP_GRACE_MS });
  // A family without native code runs no probe.
  if (placement === undefined && Object.keys(providers).length > 0) {
    throw new AppError(
      "DEVICE_UNAVAILABLE",
      `model ${model.slug} was loaded on ${device.id}, but onnxruntime-node's own API does not say where its nodes are: run without DRYAPI_RUNTIME=node`,
    );
  }
  return { device: device.id, loadMs, graphs: placement ?? [], ...(job === null ? {} : { job }) };
}

const JOB = "verify";

async function runSmallest(runner: RunnerProcess, { manifest, slug }: ModelEntry): Promise<SmallestRun | null> {
  const smallest = smallestRequest(manifest);
  if (smallest === null) return null;
  const { task, fields, files } = smallest;
  const plan = planSubmit({ manifest, task, fields, files: files.map(({ name }) => ({ name })), randomSeed: 1 });
  if (!plan.ok)
    throw new AppError("MANIFEST_INVALID", `model ${slug}: its own limits allow no request for ${task}: ${JSON.stringify(plan.errors)}`);
  const dir = await mkdtemp(join(tmpdir(), "dryapi-verify-"));
  try {
    const [outDir, sound] = [join(dir, "out"), join(dir, "sound.wav")];
    await Promise.all([mkdir(outDir), writeFile(sound, secondOfSound())]);
    const inputs = files.map(({ name }) => ({ name, path: sound, contentType: "audio/wav" }));
    const began = performance.now();
    const { jobs } = await runner.runBatch({ batch: JOB, jobs: [{ id: JOB, task, params: plan.params, inputs, outDir }] });
    const end = jobs.get(JOB);
    if (end?.kind !== "done")
      throw end === undefined ? new AppError("INTERNAL", "the job has no end: this is a bug") : fromErrorData(end.error);
    return { task, ms: Math.round(performance.now() - began), files: (await readdir(outDir)).length };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

const RATE = 16_000;

/** WAV: a second of 440 Hz, mono, 16 bits. */
function secondOfSound(): Buffer {
  const samples = Int16Array.from({ length: RATE }, (_, at) => 8_000 * Math.sin((2 * Math.PI * 440 * at) / RATE));
  const head = Buffer.alloc(44);
  head.write("RIFF", 0);
  head.writeUInt32LE(36 + samples.byteLength, 4);
  head.write("WAVEfmt ", 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(RATE, 24);
  head.writeUInt32LE(RATE * 2, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write("data", 36);
  head.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([head, Buffer.from(samples.buffer)]);
}

export function printPlacement(slug: string, { device, loadMs, graphs, job }: ModelPlacement, kind: DeviceKind, terminal: Terminal): void {
  terminal.out(`ok    ${slug} on ${device}: loaded in ${formatMs(loadMs)}${graphs.length === 0 ? ", no native code" : ""}`);
  for (const graph of graphs) {
    const left = describeLeftOver(leftOver(graph, kind));
    const provider = EXECUTION_PROVIDERS[kind];
    const nodes = Object.values(graph.operators[provider] ?? {}).reduce((sum, each) => sum + each, 0);
    // Of WebGPU's own nodes the library names only some (runner/ort/node-placement.ts).
    const count = kind === "webgpu" ? "" : ` (${nodes})`;
    terminal.out(`      ${graph.path}: ${left === "" ? `all nodes on ${provider}${count}` : `on ${provider}${count}, but for ${left}`}`);
  }
  if (job !== undefined) terminal.out(`      the smallest ${job.task} ran in ${formatMs(job.ms)}`);
}
