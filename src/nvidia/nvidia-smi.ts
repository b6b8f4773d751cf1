import { execFile } from "node:child_process";

const TIMEOUT_MS = 15_000;

/** Runs one nvidia-smi query; rows of trimmed fields. Null when the program is missing or fails (no driver, no GPU, no permission). */
export type NvidiaSmi = (args: readonly string[]) => Promise<readonly (readonly string[])[] | null>;

/** nvidia-smi as a child process: NVML without a native dependency. About 20 to 500 ms, off the event loop. */
export const nvidiaSmi: NvidiaSmi = (args) =>
  new Promise<readonly (readonly string[])[] | null>((resolve) => {
    execFile("nvidia-smi", [...args, "--format=csv,noheader,nounits"], { timeout: TIMEOUT_MS, killSignal: "SIGKILL" }, (error, stdout) => {
      resolve(error === null ? parseCsv(stdout) : null);
    });
    // Some failures to start it are thrown (a file in the PATH where a folder should be), most come as the error above.
  }).catch(() => null);

function parseCsv(text: string): string[][] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.map((line) => line.split(",").map((field) => field.trim()));
}

/** nvidia-smi's MiB (no units) as bytes; null for "[N/A]" and the like. */
export function mebibytes(field: string | undefined): number | null {
  return field !== undefined && /^\d+$/.test(field) ? Number(field) * 1024 * 1024 : null;
}
