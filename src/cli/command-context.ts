import type { Program } from "../config/setting.ts";
import { EXIT_CODES_HELP } from "./exit-codes.ts";
import { settingsHelp } from "./settings-help.ts";
import type { Terminal } from "./terminal.ts";

export interface ProgramContext {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly terminal: Terminal;
  readonly setExitCode: (code: number) => void;
}

export interface JsonOption {
  readonly json: boolean;
}

/** For --help. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}\n`;
}

/** With the settings that the program reads, and the exit codes. */
export function after(program: Program, ...lines: readonly string[]): string {
  return examples(...lines) + settingsHelp(program) + EXIT_CODES_HELP;
}
