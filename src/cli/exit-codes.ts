import { asAppError, type ErrorCode } from "../protocol/error.ts";

export const EXIT = {
  ok: 0,
  /** The job failed, a check of doctor or verify failed, or something broke. */
  failed: 1,
  /** Wrong arguments, parameters or settings. */
  usage: 2,
  /** Redis or the object store does not answer, or nothing can take the job. */
  unavailable: 3,
  timeout: 4,
  /** Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const;

export const EXIT_CODES_HELP = `
Exit codes:
  0    ok
  1    the job failed (or was cancelled), or a check failed
  2    wrong arguments, parameters or settings
  3    Redis, the object store or the model is not available
  4    --timeout passed before the job ended
  130  interrupted (Ctrl-C)
`;

const USAGE: ReadonlySet<ErrorCode> = new Set([
  "CONFIG_INVALID",
  "INVALID_INPUT",
  "IMAGE_UNREADABLE",
  "MEDIA_UNREADABLE",
  "REQUEST_UNKNOWN",
  // A file that an argument names; a stored input that is gone fails its job instead.
  "INPUT_MISSING",
  "INPUT_TOO_LARGE",
  "CONTEXT_LENGTH_EXCEEDED",
]);
const UNAVAILABLE: ReadonlySet<ErrorCode> = new Set([
  "REDIS_UNAVAILABLE",
  "STORAGE_UNAVAILABLE",
  "STORAGE_REJECTED",
  "CAPACITY_UNAVAILABLE",
  "MODEL_NOT_FOUND",
  "MODEL_CORRUPT",
  "DEVICE_UNAVAILABLE",
]);

/** The exit code for what a command threw. */
export function exitCodeOf(thrown: unknown): number {
  const { code } = asAppError(thrown);
  if (USAGE.has(code)) return EXIT.usage;
  return UNAVAILABLE.has(code) ? EXIT.unavailable : EXIT.failed;
}
