import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { findProgram } from "../../lib/find-program.ts";
import { AppError } from "../../protocol/error.ts";

const run = promisify(execFile);
/** A sentence takes 10 ms. */
const TIMEOUT_MS = 10_000;
const MAX_OUTPUT_BYTES = 1024 * 1024;

/** Path of espeak-ng. @throws AppError MODEL_UNSUPPORTED that says what to install */
export function findEspeak(): string {
  const found = findProgram("espeak-ng");
  if (found !== null) return found;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    "espeak-ng was not found in the PATH: install it (Debian: apt-get install espeak-ng), this model speaks phonemes",
  );
}

/**
 * Phonemes (IPA with stress marks) of words without punctuation, as espeak-ng says them in `lang`, one of its voices. The npm packages with
 * espeak-ng inside know English only and take over the process's handlers of uncaught errors, so the program it is.
 * @throws AppError PIPELINE_FAILED
 */
export async function phonemize(espeak: string, words: string, lang: string): Promise<string> {
  try {
    // `--` and the leading space: a text is never an option.
    const { stdout } = await run(espeak, ["-q", "--ipa", "-v", lang, "--", ` ${words}`], {
      timeout: TIMEOUT_MS,
      maxBuffer: MAX_OUTPUT_BYTES,
    });
    return stdout.trim().replaceAll(/\s+/gu, " ");
  } catch (thrown) {
    throw new AppError("PIPELINE_FAILED", `espeak-ng failed for language ${lang}: ${(thrown as Error).message}`, { cause: thrown });
  }
}
