import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { MergedDecoder } from "../../../src/pipelines/graph/merged-decoder.ts";
import { openBackend } from "../../../src/runner/open-backend.ts";
import { deviceBytes } from "../../../test/gpu/report.ts";
import { percentile } from "../row.ts";
import { beside, measurePart, wave, type Bench, type PartResult } from "./geometry.ts";

/** As scripts/export/geometry_reference.py takes them. */
const STEPS = 20;
const WARM_UP = 3;

interface Sizes {
  readonly layers: number;
  readonly heads: number;
  readonly width: number;
  readonly vocabulary: number;
}

export interface WhisperResult {
  readonly parts: readonly PartResult[];
  /** Bytes that cross between host and device in a decoding step, and those of the keys and values that stay. */
  readonly stepBytes: number;
  readonly cacheBytes: number;
}

/** Whisper's encoder over 30 s of sound, and decoding steps of one token with the cache on the device. */
export async function measureWhisper(bench: Bench): Promise<WhisperResult> {
  const sizes = JSON.parse(await readFile(join(bench.folder, "geometry.json"), "utf8")) as Sizes;
  const features = { input_features: wave(1, 128, 3000) };
  const encoder = await measurePart(bench, "encoder", "onnx/encoder_model.onnx", features, "last_hidden_state");
  const { decoder, stepBytes } = await measureDecoder(bench, sizes);
  return { parts: [encoder, decoder], stepBytes, cacheBytes: sizes.layers * 2 * sizes.width * 4 * (1500 + STEPS) };
}

async function measureDecoder(
  { device, folder, torch }: Bench,
  sizes: Sizes,
): Promise<{ readonly decoder: PartResult; readonly stepBytes: number }> {
  const startedAt = performance.now();
  const session = await openBackend({ device }, "c").open(join(folder, "onnx", "decoder_model_merged.onnx"));
  const loadMs = performance.now() - startedAt;
  const { layers, heads, width, vocabulary } = sizes;
  const shape = { layers, heads, headSize: width / heads, vocabulary };
  try {
    const model = new MergedDecoder({ part: "decoder", session, names: { inputs: {}, outputs: {} } }, shape, false);
    using decoding = model.begin(wave(1, 1500, width));
    const spent: number[] = [];
    const crossed: number[] = [];
    let logits = new Float32Array(0);
    for (let step = 0; step < STEPS; step++) {
      const [at, before] = [performance.now(), session.traffic];
      logits = (await decoding.step([[(step * 7) % vocabulary]])).slice();
      spent.push(performance.now() - at);
      crossed.push(session.traffic.toDevice + session.traffic.toHost - before.toDevice - before.toHost);
    }
    const result = { type: "float32", data: logits, dims: [1, 1, vocabulary] } as const;
    const compared = await beside(torch, "decoder", result);
    const decoder = { part: "decoder", ms: percentile(spent.slice(WARM_UP), 50), loadMs, deviceBytes: await deviceBytes(), ...compared };
    return { decoder, stepBytes: crossed.at(-1) ?? NaN };
  } finally {
    await session.release();
  }
}
