import { AppError, asAppError } from "../../protocol/error.ts";
import type { Logger } from "../../telemetry/logger.ts";
import type { DetectedDevice } from "./devices.ts";
import { proveDevice, type DeviceProof } from "./prove-device.ts";

type Proofs = ReadonlyMap<string, Promise<DeviceProof>>;

/**
 * Proves all devices at once, beside the rest of the start. Their processes end with the signal, and with what is opened for the start; a
 * proof that was cut short so says nothing about its device, and never settles.
 */
export function beginProofs(
  devices: readonly DetectedDevice[],
  options: {
    readonly log: Logger;
    readonly stack: AsyncDisposableStack;
    readonly signal: AbortSignal;
    readonly entry: string | undefined;
  },
): Proofs {
  const over = new AbortController();
  options.stack.defer(() => over.abort(new AppError("CANCELLED", "the worker ends")));
  const signal = AbortSignal.any([options.signal, over.signal]);
  const { log, entry } = options;
  return new Map(
    devices.map((device) => {
      const proof = proveDevice(device, { log, signal, ...(entry !== undefined && { entry }) }).catch((thrown: unknown) => {
        if (signal.aborted) return Promise.withResolvers<DeviceProof>().promise;
        throw thrown;
      });
      // Waited for by whoever needs it.
      proof.then(
        ({ proofMs, providers, runtime }) => {
          log.info({ device: device.id, proofMs, providers, ...(runtime !== undefined && { runtime }) }, "device works");
          if (runtime?.fallback !== undefined) log.warn({ device: device.id, why: runtime.fallback }, "onnxruntime's C API is not used");
        },
        () => undefined,
      );
      return [device.id, proof] as const;
    }),
  );
}

/**
 * Resolves with the first device that works. A worker without one could only wait: whoever supervises it starts it anew, and finds a driver
 * that came up late or a card that was reset.
 * @throws AppError DEVICE_UNAVAILABLE with what is wrong with each, when none works
 */
export async function anyProved(proofs: Proofs): Promise<void> {
  const failures = await Promise.any(proofs.values()).then(
    () => null,
    (thrown: unknown) => (thrown instanceof AggregateError ? (thrown.errors as readonly unknown[]) : [thrown]),
  );
  if (failures === null) return;
  const lines = [...proofs.keys()].map((device, index) => `${device}: ${asAppError(failures[index]).message}`);
  throw new AppError("DEVICE_UNAVAILABLE", `no device works:\n  ${lines.join("\n  ")}`);
}
