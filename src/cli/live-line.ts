import type { Terminal } from "./terminal.ts";

const BAR_WIDTH = 28;

/** A line of a screen that is written over again and again. */
export class LiveLine {
  readonly #columns: number;
  #drawn = false;

  constructor({ columns }: Pick<Terminal, "columns">) {
    this.#columns = columns;
  }

  draw(text: string): void {
    process.stderr.write(`\r\u001B[K${text.slice(0, Math.max(20, this.#columns - 1))}`);
    this.#drawn = true;
  }

  /** Before anything else is written. */
  clear(): void {
    if (this.#drawn) process.stderr.write("\r\u001B[K");
    this.#drawn = false;
  }
}

/** @param share 0 to 1 */
export function bar(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_WIDTH);
  return `${"█".repeat(filled)}${"░".repeat(BAR_WIDTH - filled)}`;
}
