import assert from "node:assert/strict";
import { test } from "node:test";
import { DeviceWatch, quarantineText, type QuarantineNote } from "./device-watch.ts";

const CRASH = { code: "RUNNER_CRASHED", message: "the runner ended with SIGSEGV in stage denoise" } as const;
const DEAD = { code: "DEVICE_UNAVAILABLE", message: "device cuda:0 cannot be used: CUDA failure 999" } as const;

function openWatch(): { readonly watch: DeviceWatch; readonly texts: () => readonly string[]; readonly notes: QuarantineNote[] } {
  const notes: QuarantineNote[] = [];
  return { watch: new DeviceWatch((note) => notes.push(note)), notes, texts: () => notes.map(quarantineText) };
}

test("the text says what happened: different jobs, named, with the last failure", () => {
  const { watch, texts } = openWatch();
  for (const job of ["a", "b", "a", "c"]) watch.faulted("cuda:0", job, CRASH);
  assert.deepEqual(texts(), [
    "3 different jobs failed on it (b, a, c), the last with: RUNNER_CRASHED: the runner ended with SIGSEGV in stage denoise",
  ]);
});

test("no job is blamed for a ping, a load or a proof, and further times are counted until a job ends well", () => {
  const { watch, texts, notes } = openWatch();
  watch.probeFailed("cuda:0", { kind: "ping" }, { code: "STAGE_TIMEOUT", message: "ping gave no sign of life for 10000 ms" });
  watch.probeFailed("cuda:0", { kind: "load", model: "flux" }, DEAD);
  watch.probeFailed("cuda:0", { kind: "proof" }, DEAD);
  watch.released("cuda:0");
  assert.equal(watch.noteOf("cuda:0"), undefined);
  watch.faulted("cuda:0", "x", CRASH);
  const again = (times: string): string => ` (out of service for the ${times} time since a job last ended well on it)`;
  assert.deepEqual(texts(), [
    "an idle runner on it did not answer its ping: STAGE_TIMEOUT: ping gave no sign of life for 10000 ms",
    `the runner of model flux could not use it: DEVICE_UNAVAILABLE: ${DEAD.message}${again("2nd")}`,
    `it failed its proof: DEVICE_UNAVAILABLE: ${DEAD.message}${again("3rd")}`,
    `job x failed on it again: RUNNER_CRASHED: ${CRASH.message}${again("4th")}`,
  ]);
  assert.equal(watch.noteOf("cuda:0"), notes.at(-1));
  watch.succeeded("cuda:0");
  watch.probeFailed("cuda:0", { kind: "proof" }, DEAD);
  assert.equal(notes.at(-1)?.times, 1);
});
