import type { Manifest } from "../protocol/manifest.ts";
import type { Task } from "../protocol/task.ts";
import type { Field, FileField } from "./task-fields.ts";

export type Family = Manifest["family"];

interface FamilyRow {
  /** What its pipelines can do; a manifest that names another task is refused. Null: whatever is asked. */
  readonly tasks: readonly Task[] | null;
  /** Fields of its tasks that the family's pipeline reads, files included; the others do nothing there. Null: it reads whatever comes. */
  readonly reads: ReadonlySet<string> | null;
  /** The field above 1 of which a negative prompt is looked at. */
  readonly negativeBy?: "true_cfg_scale" | "guidance";
}

const reads = (...names: readonly string[]): ReadonlySet<string> => new Set(names);
const VIDEO = ["prompt", "negative_prompt", "width", "height", "steps", "guidance", "frames", "fps", "seed"];
const speech: FamilyRow = { tasks: ["txt2audio"], reads: reads("text", "lang", "voice", "speed", "format", "sample_rate") };

/** test/integration/family-fields.test.ts runs every family's tiny model and compares what it reads with this table. */
export const FAMILY_FIELDS: Readonly<Record<Family, FamilyRow>> = {
  flux: {
    tasks: ["txt2img", "img2img"],
    reads: reads("prompt", "negative_prompt", "true_cfg_scale", "width", "height", "steps", "guidance", "seed", "strength", "image"),
    negativeBy: "true_cfg_scale",
  },
  "ltx-video": {
    tasks: ["txt2video", "img2video"],
    reads: new Set([...VIDEO, "first_frame_image", "last_frame_image"]),
    negativeBy: "guidance",
  },
  kokoro: speech,
  vits: speech,
  musicgen: { tasks: ["txt2music"], reads: reads("caption", "duration", "guidance_scale", "seed", "format") },
  whisper: {
    tasks: ["audiofile2txt", "videofile2txt", "aud2txt", "vid2txt"],
    reads: reads("include_ts", "return_result_in_response", "audio", "video", "audio_url", "video_url"),
  },
  fake: { tasks: null, reads: null },
};

/** Whether the family's pipeline looks at it. */
export function familyReads(family: Family, name: string): boolean {
  return FAMILY_FIELDS[family].reads?.has(name) !== false;
}

/** Whether a model has a field or takes a file: its family reads it, and its manifest offers it. */
export function hasField({ family, features, limits, defaults }: Manifest, { name, feature }: Field | FileField): boolean {
  if (!familyReads(family, name)) return false;
  if (feature === undefined) return true;
  const isMentioned = `min_${name}` in limits || `max_${name}` in limits || name in defaults;
  return features[feature] ?? isMentioned;
}
