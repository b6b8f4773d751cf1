import { createHash } from "node:crypto";
import { appendFileSync, mkdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { AppError } from "../../protocol/error.ts";
import { fakeFolder, waitAtGate } from "./fake-gate.ts";
import type { Fault, FaultStage } from "./fake-params.ts";

/** A device-wide failure: fails the batch, not one job. */
export class BatchFault extends Error {
  override readonly name = "BatchFault";
}

/** Does what the fault says, now. Kinds that concern the output or a cancel do nothing here. */
export async function commitFault(fault: Fault, isCancelled: () => boolean): Promise<void> {
  switch (fault.kind) {
    case "gate":
      return waitAtGate(fault.gate, isCancelled);
    case "oom":
      throw new BatchFault("bfc_arena: failed to allocate memory for requested buffer of size 4000000000000", {
        cause: new AppError("OUT_OF_MEMORY", "the fake model ran out of memory, as asked"),
      });
    case "segfault":
      process.kill(process.pid, "SIGSEGV");
      // The signal is on its way; nothing after it may run.
      blockFor(null);
      return;
    case "abort":
      return process.abort();
    case "exit0":
      return process.exit(0);
    case "hang":
      blockFor(null);
      return;
    case "stall":
      // The timer keeps the process alive; nobody waits for it to the end.
      await wait(2 ** 31 - 1);
      return;
    case "throw":
      throw new Error("the fake model threw, as asked");
    case "invalid_input":
      throw new AppError("INVALID_INPUT", "the fake model refused its input, as asked", {
        field: "fault",
        detail: "The fault field asks for it.",
      });
    case "garbage":
      process.send?.({ type: "nonsense", of: ["the", "fake", "model"] });
      return;
    case "stderr":
      for (let line = 1; line <= 100; line++) process.stderr.write(`fake: line ${line} of 100, as asked\n`);
      return;
    case "ignore_cancel":
    case "missing_file":
    case "wrong_sha":
      return;
  }
}

/** Blocks the thread in a native wait, as a driver that hangs does: milliseconds, null = for ever. */
export function blockFor(durationMs: number | null): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs ?? Infinity);
}

/** True when the fault is due at this point. */
export function isDue(fault: Fault | undefined, at: FaultStage, step?: number): fault is Fault {
  return fault !== undefined && fault.at === at && (step === undefined || fault.step === step);
}

/**
 * True on the first `limit` calls for a key, over all processes of this user: a crashed process remembers nothing, so the count is
 * the size of a small file, grown before the fault happens and removed by the call that comes out clean.
 */
export function isFaultyTry(key: string, limit: number | undefined): boolean {
  if (limit === undefined) return true;
  const folder = fakeFolder();
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, createHash("sha256").update(key).digest("hex").slice(0, 32));
  const tries = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
  if (tries < limit) {
    appendFileSync(path, ".");
    return true;
  }
  rmSync(path, { force: true });
  return false;
}
