/** Where a command writes: results to `out`, everything about them to `err`, so that a pipe gets results only. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  /** `err` is a screen that understands cursor movements. */
  readonly isLive: boolean;
  readonly columns: number;
}

export function processTerminal(): Terminal {
  for (const stream of [process.stdout, process.stderr]) {
    // `dryapi config | head`: whoever read has left. What is under way still ends in order.
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE") throw error;
    });
  }
  return {
    out: (text) => void process.stdout.write(`${text}\n`),
    err: (text) => void process.stderr.write(`${text}\n`),
    isLive: process.stderr.isTTY && process.env["TERM"] !== "dumb",
    columns: process.stderr.columns ?? 80,
  };
}

/** Rows as aligned columns; the last column is not padded. */
export function formatTable(rows: readonly (readonly string[])[], indent: string = ""): string {
  const widths: number[] = [];
  for (const row of rows) for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, cell.length);
  const line = (row: readonly string[]): string =>
    row.map((cell, index) => (index === row.length - 1 ? cell : cell.padEnd(widths[index] ?? 0))).join("  ");
  return rows.map((row) => `${indent}${line(row)}`.trimEnd()).join("\n");
}

/** Text broken at blanks into lines of at most `width`, each after the first indented. */
export function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].join(`\n${indent}`);
}

export function formatBytes(sizeBytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = sizeBytes < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(sizeBytes) / 10));
  const value = sizeBytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

export function formatMs(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1_000)} s`;
}
