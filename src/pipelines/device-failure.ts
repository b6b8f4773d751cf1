import type { ErrorCode } from "../protocol/error.ts";

/**
 * Failures of the device rather than of one job: they concern every job that has not ended, and the device's context or arena may be
 * damaged afterwards, so that the process must be replaced. (onnxruntime's arena never shrinks, and after an illegal access CUDA refuses
 * all further calls of the process.) Any other failure, a full disk among them, ends its job alone.
 */
const DEVICE_FAILURES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["OUT_OF_MEMORY", "DEVICE_UNAVAILABLE", "DEVICE_FAILED"]);

export function isDeviceFailure(code: ErrorCode): boolean {
  return DEVICE_FAILURES.has(code);
}
