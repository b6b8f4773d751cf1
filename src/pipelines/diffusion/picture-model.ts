import type { OpenGraphs } from "../graph/open-graphs.ts";
import type { FlowMatchConfig } from "./flow-match-schedule.ts";
import type { LatentRgb } from "./latent-rgb.ts";
import type { LatentShape } from "./latents.ts";
import type { RowVelocity } from "./row-denoising.ts";
import type { VaeDecoder } from "./vae-decoder.ts";
import type { VaeEncoder } from "./vae-encoder.ts";

/**
 * A loaded model that makes pictures by flow matching over latents packed in blocks of 2 x 2: what a family says about itself, so that
 * batches, image-to-image, guidance, previews and files work (picture-pipeline.ts). `Text` is what its encoders make of a prompt.
 */
export interface PictureModel<Text = unknown> extends OpenGraphs {
  readonly schedule: FlowMatchConfig;
  readonly latents: {
    readonly channels: number;
    /** Picture pixels per latent pixel. */
    readonly factor: number;
    /** `value / scale + shift` is what the decoder takes. */
    readonly scale: number;
    readonly shift: number;
    /** Colours of a latent pixel, for previews. */
    readonly rgb: LatentRgb;
  };
  /** Whether the transformer takes a guidance of its own (a distilled one), beside classifier-free guidance. */
  readonly hasGuidance: boolean;
  readonly decoder: VaeDecoder;
  /** Null where the manifest has no img2img. */
  readonly encoder: VaeEncoder | null;
  /** `beforeRun` is awaited before each native run: it readies stage `text` and announces it. A text that is held runs nothing. */
  encodeText(text: string, beforeRun: () => Promise<void>): Promise<{ readonly embedding: Text; readonly cached: boolean }>;
  /** Readies the transformer for a batch, a row per text. */
  openRun(shape: LatentShape, texts: readonly Text[], guidance: number): RowVelocity;
}

/** Sides of a picture are multiples of it: latent pixels come in blocks of 2 x 2. */
export function sizeStepOf({ latents }: PictureModel): number {
  return latents.factor * 2;
}
