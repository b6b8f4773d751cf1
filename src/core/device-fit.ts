import type { DeviceKind, Manifest } from "../protocol/manifest.ts";
import { describeNeeds, gib, largestStage, memoryNeeds } from "./memory-plan.ts";

/** Memory of a device that models may use in all: so many bytes, or a share of what it has. */
export type MemoryShare = { readonly bytes: number } | { readonly share: number };

/** A device as models are planned for it. */
export interface BudgetedDevice {
  readonly id: string;
  readonly kind: DeviceKind;
  /** What models may use in all. */
  readonly budgetBytes: number;
}

/** What models may use of a device: all but the reserve, and no more than the operator's budget. */
export function budgetOf(memoryBytes: number, reserveBytes: number, budget: MemoryShare | null): number {
  const most = memoryBytes - reserveBytes;
  if (budget === null) return most;
  return Math.min(most, "bytes" in budget ? budget.bytes : Math.floor(memoryBytes * budget.share));
}

/**
 * What a model needs on a kind of device when its parts are there by turns; undefined where it has no stages, or would save nothing.
 * @param partBytes of the files of each part; those that are missing are not known
 */
export function stagedBytesOn(manifest: Manifest, kind: DeviceKind, partBytes: Readonly<Record<string, number>>): number | undefined {
  const needs = memoryNeeds(manifest, kind, (part) => partBytes[part] ?? null);
  const bytes = needs === null ? Infinity : largestStage(needs).bytes;
  return bytes < (manifest.memoryBytes[kind] ?? 0) ? bytes : undefined;
}

/** Why none of the devices can ever hold the model: what it needs, what there is, what to set. Null when one can. */
export function whyUnfit(
  manifest: Manifest,
  partBytes: Readonly<Record<string, number>>,
  devices: readonly BudgetedDevice[],
): string | null {
  const { memoryBytes, slug } = manifest;
  const fits = ({ kind, budgetBytes }: BudgetedDevice): boolean => {
    const least = stagedBytesOn(manifest, kind, partBytes) ?? memoryBytes[kind];
    return least !== undefined && least <= budgetBytes;
  };
  if (devices.length === 0 || devices.some(fits)) return null;
  const kinds = [...new Set(devices.map(({ kind }) => kind))];
  const known = kinds.filter((kind) => memoryBytes[kind] !== undefined);
  if (known.length === 0) {
    const has = devices.map(({ id }) => id).join(", ");
    return `model ${slug} is for ${Object.keys(memoryBytes).join(" and ")}, and this worker has ${has}: run it on another machine, or state memoryBytes for the device in the manifest`;
  }
  const needs = known.map((kind) => needOn(manifest, kind, partBytes));
  const have = devices.map(({ id, budgetBytes }) => `${id} gives models ${gib(budgetBytes)}`).join(", ");
  const stages = needs.flatMap((need) => need.stages ?? []);
  // What to do stands before the numbers: an announcement cuts long words.
  return (
    `model ${slug} ${needs.map(({ total }) => total).join("; ")}, but ${have}: raise DRYAPI_DEVICE_BUDGET or lower DRYAPI_DEVICE_RESERVE_BYTES, ` +
    `take a larger device, or a smaller export of the model${stages.length === 0 ? "" : `. Stages: ${stages.join("; ")}`}`
  );
}

function needOn(
  manifest: Manifest,
  kind: DeviceKind,
  partBytes: Readonly<Record<string, number>>,
): { readonly total: string; readonly stages: string | null } {
  const whole = `needs ${gib(manifest.memoryBytes[kind] ?? 0)} of ${kind}`;
  const needs = memoryNeeds(manifest, kind, (part) => partBytes[part] ?? null);
  if (needs === null) return { total: whole, stages: null };
  return { total: `${whole}, and ${gib(largestStage(needs).bytes)} with its parts there by turns`, stages: describeNeeds(needs) };
}
