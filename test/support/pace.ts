import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fakeFolder, gatePath } from "../../src/pipelines/fake/fake-gate.ts";

/**
 * How fast the steps of models are in tests: no test may depend on it. TEST_PACE=20 makes every step that a test asks for 20 times as
 * long, TEST_PACE=0.05 a twentieth. Where something must happen within a step, the test holds the step at a gate instead.
 */
const PACE = Number(process.env["TEST_PACE"] ?? "1");
if (!(PACE > 0)) throw new Error(`TEST_PACE is "${process.env["TEST_PACE"]}", expected a number above 0`);

/** The least length of a step of a real model in paced-runner.ts, before TEST_PACE. */
const FLOOR_MS = 5;

/** A step of so many milliseconds at the pace of this run: `step_ms` and `busy_ms` of the fake model. */
export function paced(stepMs: number): number {
  return Math.max(1, Math.round(stepMs * PACE));
}

/** Holds a step until the test opens it. It never holds a job that was cancelled. */
export interface Gate extends Disposable {
  /** The `fault` parameter of a fake job that waits here; where it waits is the caller's to add (`at`, `step`). */
  readonly fault: { readonly kind: "gate"; readonly gate: string };
  open(): void;
}

/** A gate for processes whose TMPDIR is `tempDir`. */
export function closeGate(name: string = randomUUID(), tempDir: string = tmpdir()): Gate {
  const path = gatePath(name, tempDir);
  mkdirSync(fakeFolder(tempDir), { recursive: true, mode: 0o700 });
  writeFileSync(path, "");
  const open = (): void => rmSync(path, { force: true });
  return { fault: { kind: "gate", gate: name }, open, [Symbol.dispose]: open };
}

const floorPath = (tempDir: string): string => join(tempDir, "floor-ms");

/** Tells the runners of paced-runner.ts below `tempDir` how long a step lasts at least: their environment is the daemon's choice. */
export function setFloor(tempDir: string): void {
  writeFileSync(floorPath(tempDir), String(FLOOR_MS * PACE));
}

/** In the runner: milliseconds. */
export function readFloor(): number {
  const path = floorPath(tmpdir());
  return existsSync(path) ? Number(readFileSync(path, "utf8")) : 0;
}

/** The gate at which a runner of paced-runner.ts waits when a batch comes to a stage for the n-th time. */
export function stageGate(stage: string, nth: number): string {
  return `stage-${stage}-${nth}`;
}
