import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { babble, inPieces } from "../../../test/support/whisper-audio.ts";
import { FeatureReader, WINDOW_FRAMES } from "./feature-reader.ts";
import { PowerSpectrum } from "./fourier.ts";
import { surveyAudio } from "./survey-audio.ts";

const FIXTURES = new URL("../../../test/fixtures/whisper/", import.meta.url);
const TOLERANCE = 1e-4;

interface Golden {
  readonly seed: number;
  readonly samples: number;
  readonly mel_bins: number;
  readonly content_frames: number;
  readonly feature_stride: number;
}

test("a spectrum is that of the sum which defines it", () => {
  for (const length of [4, 6, 30, 400]) {
    const frame = Float64Array.from({ length }, (_, i) => Math.sin(i * i) + i / length);
    const spectrum = new PowerSpectrum(length);
    const power = new Float64Array(spectrum.bins);
    spectrum.write(frame, power);
    for (let k = 0; k < spectrum.bins; k++) {
      const angle = (i: number): number => (2 * Math.PI * k * i) / length;
      const re = frame.reduce((sum, value, i) => sum + value * Math.cos(angle(i)), 0);
      const im = frame.reduce((sum, value, i) => sum + value * Math.sin(angle(i)), 0);
      const expected = re * re + im * im;
      assert.ok(Math.abs(power[k]! - expected) < 1e-9 * (1 + expected), `${length} samples, bin ${k}: ${power[k]} and ${expected}`);
    }
  }
});

for (const name of ["short", "long", "short-128"]) {
  for (const size of [1_000, 32_768]) {
    test(`features of ${name} in pieces of ${size} samples equal those of WhisperFeatureExtractor to ${TOLERANCE}`, async () => {
      const golden = JSON.parse(await readFile(new URL(`${name}.json`, FIXTURES), "utf8")) as Golden;
      const bytes = await readFile(new URL(`${name}.f32`, FIXTURES));
      const expected = new Float32Array(Uint8Array.from(bytes).buffer);
      const { mel_bins: bins, feature_stride: stride } = golden;
      const audio = babble(golden.seed, golden.samples);
      let heard = 0;
      const survey = await surveyAudio({
        samples: inPieces(audio, size),
        bins,
        gateDbfs: -60,
        onPiece: async (seconds) => {
          heard = seconds;
        },
      });
      assert.equal(survey.contentFrames, golden.content_frames);
      assert.equal(survey.seconds, golden.samples / 16_000);
      assert.equal(heard, survey.seconds);
      const reader = new FeatureReader({ samples: inPieces(audio, size), bins, loudest: survey.loudest });
      const rows = expected.length / bins;
      let largest = 0;
      let features: Float32Array = new Float32Array(0);
      for (let row = 0, start = -Infinity; row < rows; row++) {
        const frame = row * stride;
        // Windows overlap by a third.
        if (frame >= start + WINDOW_FRAMES) features = await reader.read((start = Math.max(0, frame - 1_000)));
        for (let bin = 0; bin < bins; bin++) {
          const difference = Math.abs(features[bin * WINDOW_FRAMES + frame - start]! - expected[row * bins + bin]!);
          largest = Math.max(largest, Number.isNaN(difference) ? Infinity : difference);
        }
      }
      assert.ok(rows >= 30 && largest <= TOLERANCE, `${rows} frames, largest difference ${largest}`);
    });
  }
}
