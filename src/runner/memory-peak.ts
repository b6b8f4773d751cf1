import type { DeviceMemory } from "./device-memory.ts";

/** Looks closer together than this share one measurement of the device. */
const LOOK_EVERY_MS = 1_000;

export interface HeldMemory {
  readonly rssBytes: number;
  /** Null where it cannot be read. */
  readonly deviceBytes: number | null;
}

/**
 * The most that this process was seen with. Where all graphs stay open, what it holds after a batch is the most that it held: arenas do not
 * shrink. By turns a stage's memory is gone when the batch ends, so that it is looked at in between.
 */
export class MemoryPeak {
  readonly #device: Pick<DeviceMemory, "read">;
  readonly #isStaged: boolean;
  readonly #rss: () => number;
  #rssBytes = 0;
  #deviceBytes: number | null = null;

  constructor(device: Pick<DeviceMemory, "read">, isStaged: boolean, rss: () => number = () => process.memoryUsage.rss()) {
    this.#device = device;
    this.#isStaged = isStaged;
    this.#rss = rss;
  }

  /** To be called between two pieces of work. */
  look(): void {
    if (!this.#isStaged) return;
    this.#rssBytes = Math.max(this.#rssBytes, this.#rss());
    // Never rejects: what cannot be read is null.
    void this.#device.read(LOOK_EVERY_MS).then((bytes) => this.#seen(bytes));
  }

  /** The most since the last call, now included. */
  async take(): Promise<HeldMemory> {
    this.#seen(await this.#device.read());
    const held = { rssBytes: Math.max(this.#rssBytes, this.#rss()), deviceBytes: this.#deviceBytes };
    this.#rssBytes = 0;
    this.#deviceBytes = null;
    return held;
  }

  #seen(bytes: number | null): void {
    if (bytes !== null) this.#deviceBytes = Math.max(this.#deviceBytes ?? 0, bytes);
  }
}
