import type { Backend } from "../../src/pipelines/backend.ts";
import type { DeviceKind } from "../../src/protocol/manifest.ts";
import type { DeviceSpec } from "../../src/protocol/ipc.ts";
import { openBackend, type Runtime } from "../../src/runner/open-backend.ts";
import type { OrtSettings } from "../../src/runner/ort/session-options.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const KINDS = { cpu: "cpu", cuda: "cuda" } as const satisfies Partial<Record<DeviceKind, DeviceKind>>;

/**
 * What the tests of pipelines and of the runtime compute on: the CPU, or what TEST_DEVICE names (scripts/test-gpu.ts sets it). A test
 * whose answer does not depend on the device uses this one.
 */
export const TEST_DEVICE: DeviceSpec & { readonly kind: keyof typeof KINDS } = {
  kind: kindOf(process.env["TEST_DEVICE"]),
  index: 0,
  threads: 2,
};

function kindOf(text = "cpu"): keyof typeof KINDS {
  if (text === "cpu" || text === "cuda") return KINDS[text];
  throw new Error(`TEST_DEVICE is ${JSON.stringify(text)}, expected cpu or cuda`);
}

/** As messages name it. */
export const TEST_DEVICE_ID = `${TEST_DEVICE.kind}:${TEST_DEVICE.index}`;

/**
 * A bound of the difference to a reference that was computed in float32 on a CPU. A GPU adds in another order and has other
 * approximations of exp and erf, so that its bound is wider.
 */
export function bound(bounds: { readonly cpu: number; readonly cuda: number }): number {
  return bounds[TEST_DEVICE.kind];
}

/** A backend on that device. What float32 says is computed in float32: TF32, the CUDA provider's default, keeps 10 bits of 23. */
export function openTestBackend(settings: Partial<OrtSettings> = {}, runtime?: Runtime): Backend {
  const exact = TEST_DEVICE.kind === "cuda" ? { runtime: () => ({ cuda: { use_tf32: false } }) } : {};
  return openBackend({ device: TEST_DEVICE, ...exact, ...settings }, runtime);
}
