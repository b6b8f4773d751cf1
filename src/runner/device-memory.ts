import { mebibytes, nvidiaSmi, type NvidiaSmi } from "../nvidia/nvidia-smi.ts";
import type { DeviceKind } from "../protocol/manifest.ts";

/** A query costs tens of milliseconds: by default, batches closer together than this share one measurement. */
const REFRESH_MS = 10_000;

/** What the device reports as used by this process. */
export class DeviceMemory {
  readonly #query: NvidiaSmi;
  readonly #now: () => number;
  #readable: boolean;
  #last: { readonly at: number; readonly bytes: number | null } | null = null;

  constructor(kind: DeviceKind, query: NvidiaSmi = nvidiaSmi, now: () => number = () => performance.now()) {
    this.#query = query;
    this.#now = now;
    // Compute processes only: what Vulkan uses is not listed per process.
    this.#readable = kind === "cuda";
  }

  /** Bytes; null on cpu and webgpu, and in a container whose processes the driver cannot tell apart. */
  async read(maxAgeMs: number = REFRESH_MS): Promise<number | null> {
    if (!this.#readable) return null;
    if (this.#last !== null && this.#now() - this.#last.at < maxAgeMs) return this.#last.bytes;
    const rows = await this.#query(["--query-compute-apps=pid,used_memory"]);
    const own = rows?.filter(([pid]) => pid === String(process.pid)).map(([, used]) => mebibytes(used) ?? 0) ?? [];
    const bytes = own.length === 0 ? null : own.reduce((sum, used) => sum + used, 0);
    // Not listed after a load: another pid namespace. That never changes, so it is not asked again.
    if (bytes === null) this.#readable = false;
    this.#last = { at: this.#now(), bytes };
    return bytes;
  }
}
