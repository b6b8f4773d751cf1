import assert from "node:assert/strict";
import { test } from "node:test";
import type { JobEvent } from "../protocol/event.ts";
import { createProgress } from "./progress.ts";

const event = (seq: number, rest: Partial<JobEvent>): JobEvent => ({
  v: 1,
  seq,
  id: "r",
  claim: 1,
  at: 0,
  type: "progress",
  progress: 0,
  ...rest,
});

function linesOf(events: readonly JobEvent[], quiet: boolean = false): readonly string[] {
  const lines: string[] = [];
  const terminal = {
    out: () => assert.fail("progress is no result"),
    err: (text: string) => void lines.push(text),
    isLive: false,
    columns: 80,
  };
  using progress = createProgress(terminal, { quiet, now: () => 0 });
  for (const each of events) progress.event(each);
  return lines;
}

test("without a screen there is a line for each stage and each fifth of the way, none for previews", () => {
  const events = [
    event(1, { type: "processing" }),
    event(2, { progress: 1, stage: "denoise", step: 1, steps: 100 }),
    event(3, { progress: 2, stage: "denoise", step: 2, steps: 100 }),
    event(4, { type: "preview", progress: 30, stage: "denoise" }),
    event(5, { progress: 55, stage: "denoise", step: 55, steps: 100 }),
    event(6, { progress: 95, stage: "decode" }),
    event(7, { type: "error", progress: 95, errorMessage: "out of memory" }),
  ];
  assert.deepEqual(linesOf(events), [
    "starting (0 ms)",
    "denoise 1/100 1 % (0 ms)",
    "denoise 55/100 55 % (0 ms)",
    "decode (0 ms)",
    "failed: out of memory (0 ms)",
  ]);
});

test("with --json there is no line at all", () => {
  assert.deepEqual(linesOf([event(1, { type: "processing" })], true), []);
});
