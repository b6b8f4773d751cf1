import { picturePipeline } from "../diffusion/picture-pipeline.ts";
import type { PipelineFactory } from "../pipeline.ts";
import { openFluxModel } from "./flux-model.ts";

/**
 * Flux.1: text-to-image and image-to-image, from graphs in the Optimum layout or any that the manifest maps to its roles. Follows
 * diffusers' FluxPipeline and FluxImg2ImgPipeline to 1e-3 in the latents of every step (test/integration/flux-golden.test.ts).
 */
export const createFluxPipeline: PipelineFactory = picturePipeline(openFluxModel);
