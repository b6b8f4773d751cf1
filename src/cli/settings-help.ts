import { fallbackText } from "../config/config.ts";
import type { Program, Setting } from "../config/setting.ts";
import { SETTINGS } from "../config/settings.ts";
import { wrap } from "./terminal.ts";

/** The settings that a program reads, for its --help. */
export function settingsHelp(program: Program): string {
  const rows = Object.values(SETTINGS).filter((setting: Setting<unknown>) => setting.programs.includes(program));
  const width = Math.max(...rows.map(({ env }) => env.length)) + 4;
  const lines = rows.map((setting) => {
    const text = `${setting.meaning} [${fallbackText(setting)}]`;
    return `  ${setting.env.padEnd(width - 2)}${wrap(text, 78, " ".repeat(width))}`;
  });
  return `\nSettings (environment variables, defaults in brackets):\n${lines.join("\n")}\n`;
}
