import { execFile, type ExecFileException } from "node:child_process";
import { errnoOf } from "../lib/errno.ts";

const TIMEOUT_MS = 15_000;
const MAX_SAID_CHARS = 300;
const MISSING = "nvidia-smi is missing";

/**
 * Runs one nvidia-smi query; rows of trimmed fields. Null when the program is missing or fails (no driver, no GPU, no permission): then
 * `onFailure` is told what happened, in words that begin with its name.
 */
export type NvidiaSmi = (args: readonly string[], onFailure?: (words: string) => void) => Promise<readonly (readonly string[])[] | null>;

/** nvidia-smi as a child process: NVML without a native dependency. About 20 to 500 ms, off the event loop. */
export const nvidiaSmi: NvidiaSmi = (args, onFailure) =>
  new Promise<readonly (readonly string[])[] | null>((resolve) => {
    const limits = { timeout: TIMEOUT_MS, killSignal: "SIGKILL" } as const;
    execFile("nvidia-smi", [...args, "--format=csv,noheader,nounits"], limits, (error, stdout, stderr) => {
      if (error !== null) onFailure?.(failureOf(error, `${stdout} ${stderr}`));
      resolve(error === null ? parseCsv(stdout) : null);
    });
    // Some failures to start it are thrown (a file in the PATH where a folder should be), most come as the error above.
  }).catch((thrown: unknown) => {
    onFailure?.(isAbsent(thrown) ? MISSING : `nvidia-smi could not be started (${String(thrown)})`);
    return null;
  });

function isAbsent(thrown: unknown): boolean {
  const errno = errnoOf(thrown);
  return errno === "ENOENT" || errno === "ENOTDIR";
}

function failureOf(error: ExecFileException, output: string): string {
  if (isAbsent(error)) return MISSING;
  if (error.killed === true) return `nvidia-smi gave no answer within ${TIMEOUT_MS} ms`;
  const said = output.trim().replaceAll(/\s+/g, " ").slice(0, MAX_SAID_CHARS);
  return `nvidia-smi finds no GPU (${said === "" ? error.message : `it says: ${said}`})`;
}

function parseCsv(text: string): string[][] {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return lines.map((line) => line.split(",").map((field) => field.trim()));
}

/** nvidia-smi's MiB (no units) as bytes; null for "[N/A]" and the like. */
export function mebibytes(field: string | undefined): number | null {
  return field !== undefined && /^\d+$/.test(field) ? Number(field) * 1024 * 1024 : null;
}
