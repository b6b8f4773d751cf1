import type Koffi from "koffi";
import { createRequire } from "node:module";
import { AppError, asAppError } from "../../protocol/error.ts";

export type KoffiModule = typeof Koffi;

let loaded: KoffiModule | null = null;

/**
 * koffi with its native part, loaded on the first call.
 * @throws AppError DEVICE_UNAVAILABLE where it has no build for this platform, or the build that it brings cannot be loaded
 */
export function loadKoffi(): KoffiModule {
  try {
    loaded ??= createRequire(import.meta.url)("koffi") as KoffiModule;
    return loaded;
  } catch (thrown) {
    const [why] = asAppError(thrown).message.split("\n");
    throw new AppError("DEVICE_UNAVAILABLE", `koffi, which calls onnxruntime's C API, cannot be loaded: ${why}`, { cause: thrown });
  }
}
