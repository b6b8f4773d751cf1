/** One line of the table. `ours` and `bare` were measured in the same run; `ratio` is ours / bare. */
export interface Row {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly bare: number | null;
  readonly ratio: number | null;
  readonly goal: string;
  /** Null where the issue sets no goal. */
  readonly met: boolean | null;
}

export interface RowInit {
  readonly name: string;
  readonly unit: string;
  readonly ours: number;
  readonly bare?: number;
  readonly goal?: { readonly text: string; readonly met: (row: { readonly ours: number; readonly ratio: number }) => boolean };
}

export function row(init: RowInit): Row {
  const bare = init.bare ?? null;
  const ratio = bare === null ? null : init.ours / bare;
  return {
    name: init.name,
    unit: init.unit,
    ours: init.ours,
    bare,
    ratio,
    goal: init.goal?.text ?? "",
    met: init.goal?.met({ ours: init.ours, ratio: ratio ?? NaN }) ?? null,
  };
}

/** The p-th percentile (0..100), nearest rank. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? NaN;
}

export function formatTable(rows: readonly Row[]): string {
  const cells = rows.map(({ name, unit, ours, bare, ratio, goal, met }) => [
    name,
    `${round(ours)} ${unit}`,
    bare === null ? "" : `${round(bare)} ${unit}`,
    ratio === null ? "" : ratio.toFixed(3),
    goal,
    met === null ? "" : met ? "met" : "MISSED",
  ]);
  const table = [["what", "ours", "bare", "ratio", "goal", ""], ...cells];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((line) => line[column]?.length ?? 0))) ?? [];
  return table
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
