import assert from "node:assert/strict";
import { test } from "node:test";
import { transcriptJson, transcriptText } from "./transcript.ts";

const LINES = [
  { start: 0, end: 1.5, text: " A red fox." },
  { start: 3_725.0204, end: 36_000, text: " It ran. " },
];

test("stamps are hours, minutes, seconds and milliseconds", () => {
  const transcript = { language: "en", duration: 36_000, lines: LINES };
  assert.equal(transcriptText(transcript, true), "[00:00:00.000 --> 00:00:01.500] A red fox.\n[01:02:05.020 --> 10:00:00.000] It ran.");
  assert.equal(transcriptText(transcript, false), "A red fox. It ran.");
  assert.deepEqual(JSON.parse(transcriptJson(transcript)), {
    language: "en",
    duration: 36_000,
    text: "A red fox. It ran.",
    segments: [
      { start: 0, end: 1.5, text: "A red fox." },
      { start: 3_725.02, end: 36_000, text: "It ran." },
    ],
  });
});

test("no speech is an empty text", () => {
  assert.equal(transcriptText({ language: null, duration: 5, lines: [] }, true), "");
});
