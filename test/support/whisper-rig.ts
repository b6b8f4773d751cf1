import { readdir, readFile } from "node:fs/promises";
import type { LoadContext } from "../../src/pipelines/pipeline.ts";
import type { Manifest } from "../../src/protocol/manifest.ts";
import { MODELS, readManifest } from "./flux-rig.ts";
import { openTestBackend, TEST_DEVICE } from "./test-device.ts";

export const WHISPER_FIXTURES: URL = new URL("../fixtures/whisper/", import.meta.url);

/** What the real WhisperForConditionalGeneration wrote (scripts/export/goldens_whisper.py). */
export interface WhisperGolden {
  readonly name: string;
  readonly model: string;
  readonly seed: number;
  readonly samples: number;
  readonly content_frames: number;
  /** What it heard; `language` is what it was told instead. */
  readonly detected: string;
  readonly language: string | null;
  readonly logprob_threshold: number;
  readonly no_speech_threshold: number;
  readonly windows: readonly {
    readonly mean_logprob: number;
    readonly no_speech: number;
    readonly skipped: boolean;
    /** With the end, where it came. */
    readonly tokens: number;
  }[];
  readonly segments: readonly { readonly start: number; readonly end: number; readonly tokens: readonly number[]; readonly text: string }[];
}

export async function readWhisperGoldens(): Promise<readonly WhisperGolden[]> {
  const files = (await readdir(WHISPER_FIXTURES)).filter((file) => file.endsWith(".json")).toSorted();
  return Promise.all(
    files.map(async (file) => {
      const golden = JSON.parse(await readFile(new URL(file, WHISPER_FIXTURES), "utf8")) as Omit<WhisperGolden, "name">;
      return Object.assign(golden, { name: file.slice(0, -".json".length) });
    }),
  );
}

/** What a runner would load a tiny model with; `options` go into its manifest. */
export async function whisperContext(slug: string, options: Manifest["options"] = {}): Promise<LoadContext> {
  const manifest = await readManifest(slug);
  return {
    manifest: { ...manifest, options: { ...manifest.options, ...options } },
    modelDir: new URL(slug, MODELS).pathname,
    device: TEST_DEVICE,
    backend: openTestBackend(),
    previews: false,
    embeddingCacheBytes: 0,
    budgetBytes: null,
    stage: () => undefined,
  };
}
