import type { Manifest } from "../protocol/manifest.ts";
import type { PipelineFactory } from "./pipeline.ts";

export interface Family {
  /** Whether it runs onnxruntime sessions: then the runner proves the device before it loads. */
  readonly native: boolean;
  /** Imports the family's code; a runner holds one model, so it loads only that one's. */
  readonly open: () => Promise<PipelineFactory>;
}

/** Model families by the name that manifests use. */
export const FAMILIES: Readonly<Record<Manifest["family"], Family>> = {
  "ltx-video": { native: true, open: async () => (await import("./ltx-video/ltx-pipeline.ts")).createLtxPipeline },
  flux: { native: true, open: async () => (await import("./flux/flux-pipeline.ts")).createFluxPipeline },
  vits: { native: true, open: async () => (await import("./speech/vits-model.ts")).createVitsPipeline },
  kokoro: { native: true, open: async () => (await import("./speech/kokoro-model.ts")).createKokoroPipeline },
  musicgen: { native: true, open: async () => (await import("./musicgen/musicgen-pipeline.ts")).createMusicgenPipeline },
  whisper: { native: true, open: async () => (await import("./whisper/whisper-pipeline.ts")).createWhisperPipeline },
  fake: { native: false, open: async () => (await import("./fake/fake-pipeline.ts")).createFakePipeline },
};
