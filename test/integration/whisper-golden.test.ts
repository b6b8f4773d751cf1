import assert from "node:assert/strict";
import { test } from "node:test";
import { FeatureReader } from "../../src/pipelines/whisper/feature-reader.ts";
import { surveyAudio } from "../../src/pipelines/whisper/survey-audio.ts";
import { transcribe, type TranscribedWindow } from "../../src/pipelines/whisper/transcribe.ts";
import { openWhisperModel } from "../../src/pipelines/whisper/whisper-model.ts";
import { bound } from "../support/test-device.ts";
import { babble, inPieces } from "../support/whisper-audio.ts";
import { readWhisperGoldens, whisperContext, type WhisperGolden } from "../support/whisper-rig.ts";

const TIME_TOLERANCE = 1e-6;
const LOGPROB_TOLERANCE = bound({ cpu: 1e-3, cuda: 5e-3 });
const goldens = await readWhisperGoldens();

interface Transcript {
  readonly windows: readonly TranscribedWindow[];
  readonly segments: readonly { readonly start: number; readonly end: number; readonly tokens: readonly number[]; readonly text: string }[];
}

async function transcriptOf(golden: WhisperGolden): Promise<Transcript> {
  const { logprob_threshold, no_speech_threshold } = golden;
  const model = await openWhisperModel(await whisperContext(golden.model, { logprob_threshold, no_speech_threshold }));
  try {
    const { config } = model;
    const audio = babble(golden.seed, golden.samples);
    const samples = (): AsyncIterable<Int16Array> => inPieces(audio);
    const nothing = (): void => undefined;
    const survey = await surveyAudio({ samples: samples(), bins: config.melBins, gateDbfs: -60, onPiece: async () => undefined });
    const features = new FeatureReader({ samples: samples(), bins: config.melBins, loudest: survey.loudest });
    const { language } = golden;
    const windows: TranscribedWindow[] = [];
    const random = (): number => assert.fail("nothing is drawn");
    for await (const window of transcribe({ ...model, survey, features, language, random, onStep: nothing })) windows.push(window);
    const segments = windows.flatMap(({ segments: found }) =>
      found.map((segment) => ({ ...segment, text: model.tokenizer.decode(segment.tokens) })),
    );
    return { windows, segments };
  } finally {
    await model.release();
  }
}

test("there are goldens of both widths, of several windows, of a given language and of a window without speech", () => {
  assert.deepEqual([...new Set(goldens.map(({ model }) => model))].toSorted(), ["tiny-whisper", "tiny-whisper-128"]);
  assert.ok(goldens.some(({ windows }) => windows.length >= 3));
  assert.ok(goldens.some(({ language }) => language !== null));
  assert.ok(goldens.some(({ windows }) => windows.some(({ skipped }) => skipped) && !windows.every(({ skipped }) => skipped)));
});

for (const golden of goldens) {
  test(`${golden.name}: tokens, times and texts equal those of transformers' WhisperForConditionalGeneration`, async () => {
    const { windows, segments } = await transcriptOf(golden);
    assert.deepEqual(
      segments.map(({ tokens, text }) => ({ tokens, text })),
      golden.segments.map(({ tokens, text }) => ({ tokens, text })),
    );
    for (const [i, { start, end }] of golden.segments.entries()) {
      const found = segments[i] ?? { start: NaN, end: NaN };
      assert.ok(Math.abs(found.start - start) < TIME_TOLERANCE && Math.abs(found.end - end) < TIME_TOLERANCE, `segment ${i}`);
    }
    assert.equal(windows[0]?.language, golden.language ?? golden.detected);
    assert.equal(windows.length, golden.windows.length);
    for (const [i, expected] of golden.windows.entries()) {
      const { text, segments: found } = windows[i] ?? { text: null, segments: [] };
      assert.ok(text !== null, `window ${i}`);
      assert.ok(Math.abs(text.meanLogprob - expected.mean_logprob) < LOGPROB_TOLERANCE, `${text.meanLogprob}, ${expected.mean_logprob}`);
      assert.ok(Math.abs(text.noSpeech - expected.no_speech) < LOGPROB_TOLERANCE * expected.no_speech, `window ${i}`);
      assert.equal(found.length === 0, expected.skipped);
    }
  });
}
