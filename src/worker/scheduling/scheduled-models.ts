import { stagedBytesOn } from "../../core/device-fit.ts";
import type { Model } from "../../core/scheduler-state.ts";
import { DEVICE_KINDS, type DeviceKind } from "../../protocol/manifest.ts";
import type { WorkerContext } from "../worker-context.ts";

/** The models of these slugs as the scheduler plans with them. */
export function scheduledModels({ config, models }: Pick<WorkerContext, "config" | "models">, slugs: readonly string[]): readonly Model[] {
  const pinned = config.pinnedModels ?? [];
  return slugs.flatMap((slug): Model[] => {
    const entry = models.get(slug);
    if (entry === undefined) return [];
    const { manifest, partBytes } = entry;
    return [
      {
        slug,
        memoryBytes: byKind((kind) => manifest.memoryBytes[kind]),
        stagedBytes: byKind((kind) => stagedBytesOn(manifest, kind, partBytes)),
        batchMax: manifest.batch.max,
        pinned: pinned.includes(slug),
      },
    ];
  });
}

function byKind(bytesOf: (kind: DeviceKind) => number | undefined): Partial<Record<DeviceKind, number>> {
  const found = DEVICE_KINDS.map((kind) => [kind, bytesOf(kind)] as const);
  return Object.fromEntries(found.filter(([, bytes]) => bytes !== undefined));
}
