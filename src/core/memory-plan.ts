import type { DeviceKind, Manifest } from "../protocol/manifest.ts";
import { FAMILY_STAGES } from "./family-stages.ts";

/** A stage with the parts that the model has of it. All sizes are bytes on the device. */
export interface StageNeed {
  readonly stage: string;
  readonly parts: readonly string[];
  /** What its runs take beside the weights. */
  readonly activationBytes: number;
}

/** What a model takes on a kind of device, part by part and stage by stage. */
export interface MemoryNeeds {
  /** Weights of each part that the model has. */
  readonly partBytes: Readonly<Record<string, number>>;
  /** In the order in which a job passes them; never empty. */
  readonly stages: readonly StageNeed[];
}

/** Which parts are on the device, and which of them a stage needs. */
export interface Residency {
  readonly needs: MemoryNeeds;
  /** The stage that begins. */
  readonly stage: string;
  /** Parts that are on the device now. */
  readonly awake: ReadonlySet<string>;
  readonly budgetBytes: number;
}

/**
 * The needs of a model whose family has stages; null where its parts have to stay together, or are not known by size.
 *
 * A part's weights are what the manifest states, else the size of its files. A stage's activations are what the manifest states, else what
 * is left of the stated peak of the whole model without all weights: then each stage is reckoned with the largest one's.
 * @param fileBytes of a part's graph and its external data; null where they are not known
 */
export function memoryNeeds(manifest: Manifest, kind: DeviceKind, fileBytes: (part: string) => number | null): MemoryNeeds | null {
  const family = FAMILY_STAGES[manifest.family];
  const peak = manifest.memoryBytes[kind];
  if (family === null || peak === undefined) return null;
  const partBytes: Record<string, number> = {};
  for (const part of family.flatMap(({ parts }) => parts)) {
    if (!isUsed(manifest, part)) continue;
    const bytes = manifest.parts[part]?.memoryBytes?.[kind] ?? fileBytes(part);
    if (bytes === null) return null;
    partBytes[part] = bytes;
  }
  const rest = Math.max(0, peak - sum(Object.values(partBytes)));
  const stages = family
    .map(({ stage, parts }) => ({
      stage,
      parts: parts.filter((part) => part in partBytes),
      activationBytes: manifest.activationBytes[stage]?.[kind] ?? rest,
    }))
    .filter(({ parts }) => parts.length > 0);
  return stages.length === 0 ? null : { partBytes, stages };
}

/** A picture's encoder is opened for tasks that take a picture alone. */
function isUsed({ tasks }: Manifest, part: string): boolean {
  return part !== "vae_encoder" || tasks.some((task) => task.startsWith("img2"));
}

/** What a stage takes while nothing else is on the device. */
export function stageBytes({ partBytes }: MemoryNeeds, { parts, activationBytes }: StageNeed): number {
  return sum(parts.map((part) => partBytes[part] ?? 0)) + activationBytes;
}

/** The stage that takes most, and how much: the least that the model can be run with. */
export function largestStage(needs: MemoryNeeds): { readonly stage: StageNeed; readonly bytes: number } {
  const all = needs.stages.map((stage) => ({ stage, bytes: stageBytes(needs, stage) }));
  return all.reduce((largest, each) => (each.bytes > largest.bytes ? each : largest));
}

/**
 * Parts to release before a stage begins, so that it keeps within the budget: first the one whose next turn is furthest away (the stages
 * of one job follow those of another), and no more than need be. Parts of the stage itself stay: whoever plans sees to it that they fit.
 */
export function partsToPark({ needs, stage, awake, budgetBytes }: Residency): readonly string[] {
  const at = needs.stages.findIndex((each) => each.stage === stage);
  const current = needs.stages[at];
  if (current === undefined) return [];
  const turns = [...needs.stages.slice(at), ...needs.stages.slice(0, at)];
  const nextTurn = (part: string): number => turns.findIndex(({ parts }) => parts.includes(part));
  const others = [...awake].filter((part) => !current.parts.includes(part));
  let taken = stageBytes(needs, current) + sum(others.map((part) => needs.partBytes[part] ?? 0));
  const parked: string[] = [];
  for (const part of others.toSorted((a, b) => nextTurn(b) - nextTurn(a))) {
    if (taken <= budgetBytes) break;
    parked.push(part);
    taken -= needs.partBytes[part] ?? 0;
  }
  return parked;
}

/** `text 9.8 GiB (text_encoder 0.2 GiB, text_encoder_2 9.1 GiB, runs 0.5 GiB); denoise ...`, for refusals. */
export function describeNeeds(needs: MemoryNeeds): string {
  return needs.stages
    .map((stage) => {
      const parts = stage.parts.map((part) => `${part} ${gib(needs.partBytes[part] ?? 0)}`);
      return `${stage.stage} ${gib(stageBytes(needs, stage))} (${[...parts, `runs ${gib(stage.activationBytes)}`].join(", ")})`;
    })
    .join("; ");
}

/** Two digits behind the point: models are told apart by less than 1 GiB. */
export function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(2)} GiB`;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
