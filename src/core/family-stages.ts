import type { Family } from "./family-fields.ts";

/** A stage of a family's jobs, and the parts of the model that it runs. */
export interface FamilyStage {
  readonly stage: string;
  readonly parts: readonly string[];
}

/**
 * The stages of a family, in the order in which a job passes them: only the parts of one stage have to be on the device at a time. Null:
 * the parts are used by turns within a job, so that all of them have to stay.
 */
export const FAMILY_STAGES: Readonly<Record<Family, readonly FamilyStage[] | null>> = {
  flux: [
    { stage: "text", parts: ["text_encoder", "text_encoder_2"] },
    { stage: "encode_input", parts: ["vae_encoder"] },
    { stage: "denoise", parts: ["transformer"] },
    { stage: "decode", parts: ["vae_decoder"] },
  ],
  "ltx-video": [
    { stage: "text", parts: ["text_encoder"] },
    { stage: "encode_input", parts: ["vae_encoder"] },
    { stage: "denoise", parts: ["transformer"] },
    { stage: "decode", parts: ["vae_decoder"] },
  ],
  kokoro: null,
  vits: null,
  musicgen: null,
  whisper: null,
  fake: null,
};
