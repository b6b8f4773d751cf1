import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { z } from "zod";
import type { SchedulerState } from "../../core/scheduler-state.ts";
import { makeFolders } from "../../lib/make-folders.ts";
import { writeAtomic } from "../../lib/write-atomic.ts";
import type { DetectedDevice } from "../devices/devices.ts";

type Peaks = SchedulerState["peaks"];

const schema = z.object({
  v: z.literal(1),
  /** By the scheduler's key; `device` tells whether it is the same card. */
  peaks: z.record(z.string(), z.object({ bytes: z.int().positive(), device: z.string() })),
});

/**
 * Peaks of memory that were measured above what manifests state, kept over restarts in one small file of the state folder: a worker that
 * starts plans with what the last one saw. They are what the scheduler believes, and go as its beliefs go (invariant 13). A file that is lost
 * or damaged costs the learning anew.
 */
export class LearnedPeaks {
  readonly #path: string;
  readonly #devices: readonly DetectedDevice[];
  #saved: Peaks;

  private constructor(path: string, devices: readonly DetectedDevice[], peaks: Peaks) {
    this.#path = path;
    this.#devices = devices;
    this.#saved = peaks;
  }

  static async open(stateDir: string, devices: readonly DetectedDevice[]): Promise<LearnedPeaks> {
    const path = join(stateDir, "memory-peaks.json");
    const text = await readFile(path, "utf8").catch(() => "");
    return new LearnedPeaks(path, devices, readPeaks(text, devices));
  }

  /** Of the devices that are here. */
  get peaks(): Peaks {
    return this.#saved;
  }

  /** Writes them where they changed. Rejects with the file system's error; it is tried again with the next change. */
  async save(peaks: Peaks): Promise<void> {
    if (peaks === this.#saved) return;
    this.#saved = peaks;
    const entries = Object.entries(peaks).flatMap(([key, bytes]) => {
      const device = this.#devices.find(({ id }) => isOf(key, id));
      return device === undefined ? [] : [[key, { bytes, device: stampOf(device) }] as const];
    });
    await makeFolders(dirname(this.#path));
    await writeAtomic(this.#path, JSON.stringify({ v: 1, peaks: Object.fromEntries(entries) }));
  }
}

function readPeaks(text: string, devices: readonly DetectedDevice[]): Peaks {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return {};
  }
  const parsed = schema.safeParse(value);
  if (!parsed.success) return {};
  const here = Object.entries(parsed.data.peaks).filter(([key, { bytes, device }]) =>
    devices.some((each) => isOf(key, each.id) && stampOf(each) === device && bytes <= each.memoryBytes),
  );
  return Object.fromEntries(here.map(([key, { bytes }]) => [key, bytes]));
}

function isOf(key: string, device: string): boolean {
  return key.endsWith(`@${device}`);
}

/** Another card under the same number is another device. */
function stampOf({ name, uuid, memoryBytes }: DetectedDevice): string {
  return `${uuid ?? name}/${memoryBytes}`;
}
