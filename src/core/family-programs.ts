import type { Family } from "./family-fields.ts";

/** A program beside this one that a family's pipelines start. */
export interface ProgramNeed {
  readonly program: "ffmpeg" | "espeak-ng";
  /** What a build of it must have, by ffmpeg's names. */
  readonly encoders: readonly string[];
}

const SOUND: ProgramNeed = { program: "ffmpeg", encoders: ["libmp3lame", "libvorbis"] };

/** test/integration/helper-programs.test.ts loads every family's tiny model without them to compare. */
export const FAMILY_PROGRAMS: Readonly<Record<Family, readonly ProgramNeed[]>> = {
  flux: [],
  vits: [SOUND],
  kokoro: [SOUND, { program: "espeak-ng", encoders: [] }],
  musicgen: [SOUND],
  whisper: [{ program: "ffmpeg", encoders: [] }],
  "ltx-video": [{ program: "ffmpeg", encoders: ["libx264"] }],
  fake: [],
};
