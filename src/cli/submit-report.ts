import type { Progress } from "./progress.ts";
import type { ErrorData } from "../protocol/error.ts";
import type { SavedFile } from "./save-files.ts";
import { formatMs } from "./terminal.ts";

/** As commander hands them over. */
export interface SubmitOptions {
  readonly model?: string;
  readonly out: string;
  readonly json: boolean;
  readonly wait: boolean;
  readonly timeout?: number;
  readonly preview: boolean;
  readonly priority: number;
  readonly client: string;
}

/** The one object that --json prints. */
export interface SubmitReport {
  readonly request_id: string | null;
  readonly status: "pending" | "processing" | "done" | "error";
  readonly result_url: string | null;
  readonly files: readonly SavedFile[];
  readonly seed: number | null;
  readonly timings: Readonly<Record<string, number>> | null;
  readonly error: ErrorData | null;
}

export interface Outcome {
  readonly exitCode: number;
  readonly report: SubmitReport;
}

export function reportOf(id: string | null, status: SubmitReport["status"], rest: Partial<SubmitReport>): SubmitReport {
  return { request_id: id, status, result_url: null, files: [], seed: null, timings: null, error: null, ...rest };
}

/** Of timings as the API gives them; without those of parts by turns where the model is on its device as a whole. */
export function spentText(timings: Readonly<Record<string, number>>): string {
  return Object.entries(timings)
    .filter(([stage, ms]) => ms > 0 || (stage !== "wake_ms" && stage !== "park_ms"))
    .map(([stage, ms]) => `${stage.replace("_ms", "")} ${formatMs(ms)}`)
    .join(", ");
}

/** Tells of what was given and changes nothing. */
export function noteIgnored(progress: Pick<Progress, "note">, model: string, ignored: readonly string[]): void {
  for (const name of ignored) progress.note(`note  ${model} did not use ${name}`);
}
