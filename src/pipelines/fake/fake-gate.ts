import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";

const LOOK_EVERY_MS = 10;

/** The folder in which all fake models of this user keep what outlives one process: counted faults and closed gates. */
export function fakeFolder(tempDir: string = tmpdir()): string {
  return join(tempDir, `dryapi-fake-${process.getuid?.() ?? 0}`);
}

/** A gate is closed while this file exists. */
export function gatePath(name: string, tempDir: string = tmpdir()): string {
  return join(fakeFolder(tempDir), `gate-${name}`);
}

/**
 * Waits until the gate is open or nobody wants to pass it any more. It looks again and again: that a job was cancelled is a state which
 * a pipeline can only ask for.
 */
export async function waitAtGate(name: string, isGivenUp: () => boolean): Promise<void> {
  const path = gatePath(name);
  while (existsSync(path) && !isGivenUp()) await wait(LOOK_EVERY_MS);
}
