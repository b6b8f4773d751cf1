import { CommanderError } from "commander";
import { asAppError } from "../protocol/error.ts";
import { createRedactor } from "../protocol/redact.ts";
import { secretValues } from "../config/config.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { processSignals } from "./process-signals.ts";
import { createProgram } from "./program.ts";
import { processTerminal, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** Runs one `dryapi` command; returns its exit code and never throws. */
export async function main(argv: readonly string[], env: Env = process.env, terminal: Terminal = processTerminal()): Promise<number> {
  let exitCode: number = EXIT.ok;
  const program = createProgram({ env, terminal, setExitCode: (code) => (exitCode = code) });
  try {
    await program.parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (thrown) {
    // A command that a signal has ended says so by its exit code, whatever else came of it.
    if (asAppError(thrown).code === "CANCELLED" && processSignals().exitCode !== 0) return processSignals().exitCode;
    // Commander has printed its message; --help and --version end this way too.
    if (thrown instanceof CommanderError) return thrown.exitCode === 0 ? EXIT.ok : EXIT.usage;
    terminal.err(createRedactor(secretValues(env))(describeError(thrown)));
    return exitCodeOf(thrown);
  }
}

function describeError(thrown: unknown): string {
  const error = asAppError(thrown);
  const causes: string[] = [];
  let cause = error.cause;
  while (cause instanceof Error && causes.length < 3) {
    if (!error.message.includes(cause.message)) causes.push(`  cause: ${cause.message}`);
    cause = cause.cause;
  }
  const stack = error.code === "INTERNAL" && error.stack !== undefined ? [error.stack] : [];
  return [`dryapi: ${error.message}`, ...causes, ...stack].join("\n");
}
