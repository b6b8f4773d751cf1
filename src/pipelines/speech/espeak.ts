import { text } from "node:stream/consumers";
import { findProgram } from "../../lib/find-program.ts";
import { AppError } from "../../protocol/error.ts";
import { openProgram, type ProgramLimits } from "../helper-program.ts";

/** A sentence takes 10 ms and gives a few hundred bytes. */
const TIMEOUT_MS = 10_000;
const LIMITS: ProgramLimits = { cpuSeconds: 10, memoryBytes: 1024 ** 3, fileBytes: 64 * 1024 ** 2 };

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
 * @throws AppError PIPELINE_FAILED when it fails or takes too long, INTERNAL when it cannot be started or is killed
 */
export async function phonemize(espeak: string, words: string, lang: string): Promise<string> {
  const what = `phonemes of language ${lang}`;
  // `--` and the leading space: a text is never an option.
  const args = ["-q", "--ipa", "-v", lang, "--", ` ${words}`];
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  try {
    await using program = openProgram({ what, file: espeak, args, failure: "PIPELINE_FAILED", limits: LIMITS, signal });
    const phonemes = await text(program.stdout);
    await program.finish();
    return phonemes.trim().replaceAll(/\s+/gu, " ");
  } catch (thrown) {
    if (!signal.aborted) throw thrown;
    throw new AppError("PIPELINE_FAILED", `${what}: espeak-ng was ended after ${TIMEOUT_MS} ms`, { cause: thrown });
  }
}
