import type { Config } from "../../config/config.ts";
import type { ModelEntry } from "../../models/scan-models.ts";
import { asAppError } from "../../protocol/error.ts";
import { detectDevices, type DetectedDevice } from "../../worker/devices/devices.ts";
import { wrongPlaces } from "../../worker/wrong-places.ts";
import { onnxruntimeSettings } from "../../worker/runners/onnxruntime-settings.ts";
import { startRunner } from "../../worker/runners/runner-process.ts";
import type { RunnerOptions } from "../../worker/runners/runner-types.ts";
import { formatBytes, formatMs } from "../terminal.ts";
import { fail, ok, warn, type Finding } from "./finding.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface DeviceCheck {
  readonly env: Env;
  readonly config: Pick<Config, "device" | "devices" | "cudaLibs" | "ffmpegDir" | "runtimeOptions" | "epLibraries">;
  /** A small model with native code to start a runner with on each device; null = detect only. */
  readonly probe: ModelEntry | null;
}

const CUDA_FIX = "install or correct what is named (`dryapi fetch-cuda` brings onnxruntime's GPU libraries), or set DRYAPI_DEVICE=cpu";

/** Which devices there are, and for each whether a real runner really runs there: a library that is missing shows itself only then. */
export async function checkDevices({ env, config, probe }: DeviceCheck): Promise<readonly Finding[]> {
  const problems = await wrongPlaces(config);
  const findings = problems.map((problem) => warn("settings", problem, "correct it, or leave it out"));
  let devices: readonly DetectedDevice[];
  try {
    devices = await detectDevices(config.device, {
      env,
      only: config.devices,
      onNote: (note, level) => findings.push(level === "warn" ? warn("devices", note, CUDA_FIX) : ok("devices", note)),
    });
  } catch (thrown) {
    return [...findings, fail("devices", asAppError(thrown).message, CUDA_FIX)];
  }
  for (const device of devices) {
    const what = `${device.name}, ${formatBytes(device.memoryBytes)}`;
    findings.push(
      probe === null ? ok(`device ${device.id}`, what) : await probeDevice(device, what, probe, { env, ...onnxruntimeSettings(config) }),
    );
  }
  return findings;
}

type ProbeOptions = Pick<RunnerOptions, "runtime" | "epLibraries"> & { readonly env: Env };

async function probeDevice(device: DetectedDevice, what: string, model: ModelEntry, options: ProbeOptions): Promise<Finding> {
  const check = `device ${device.id}`;
  const lines: string[] = [];
  try {
    await using runner = await startRunner({
      manifest: model.manifest,
      modelDir: model.dir,
      device,
      previews: false,
      embeddingCacheBytes: 0,
      cancelGraceMs: 1_000,
      ...options,
      log: { debug: () => undefined, warn: (_fields, message) => void lines.push(message) },
    });
    const ready = await runner.ready;
    const providers = Object.entries(ready.providers).map(([name, nodes]) => `${nodes} nodes on ${name}`);
    return ok(check, `${what}; a runner with ${model.slug} was ready in ${formatMs(ready.loadMs)} (${providers.join(", ")})`);
  } catch (thrown) {
    const error = asAppError(thrown);
    const said = error.blackBox?.stderr ?? lines.join("; ");
    return fail(
      check,
      `${what}; its runner failed: ${error.message}${said === "" ? "" : ` | it said: ${said.trim().split("\n").slice(-3).join(" / ")}`}`,
      device.kind === "cpu" ? "run `dryapi models verify`" : CUDA_FIX,
    );
  }
}
