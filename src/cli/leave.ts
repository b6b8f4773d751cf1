import { endedWithin } from "../lib/within.ts";

/** For what was printed; a reader that has stopped reading is not waited for. */
const PRINT_MS = 1_000;

/** Ends the process once what was printed is out, whatever timers and connections are still open: they have nothing to add. */
export async function leave(code: number): Promise<never> {
  process.exitCode = code;
  const printed = [process.stdout, process.stderr].map((stream) => new Promise<void>((resolve) => stream.write("", () => resolve())));
  await endedWithin(PRINT_MS, Promise.all(printed));
  process.exit(code);
}
