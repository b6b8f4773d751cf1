import { asAppError, type ErrorCode } from "../protocol/error.ts";

export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  unavailable: 3,
  timeout: 4,
  /** Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
  /** 128 + SIGTERM. */
  terminated: 143,
} as const;

export interface ExitCodeRow {
  readonly code: number;
  /** For --help. */
  readonly short: string;
  /** Of programs that run until they are signalled (worker, gateway, courier, up); null where they have no such end. */
  readonly service: string | null;
  /** Of all others; null where they have no such end. */
  readonly command: string | null;
  /** What whoever supervises a service should do, with the reason. */
  readonly restart: string;
}

/** Every code once: the help texts and docs/exit-codes.md come from here. */
export const EXIT_CODES: readonly ExitCodeRow[] = [
  {
    code: EXIT.ok,
    short: "ok",
    service: "A signal asked for the end, during the start or later, and it ended in order: jobs ended or were handed back.",
    command: "It did what was asked.",
    restart: "no: somebody stopped it",
  },
  {
    code: EXIT.failed,
    short: "the job failed (or was cancelled), or a check failed",
    service:
      "Something broke that no other code names: one of its parts failed while it ran, or it had not ended in order within its grace.",
    command: "The job failed, a check of `doctor` or `models verify` failed, or something broke.",
    restart: "yes, at once",
  },
  {
    code: EXIT.usage,
    short: "wrong arguments, parameters or settings",
    service:
      "A setting is wrong here: its value, an address or port that cannot be bound, a state, spool or temporary folder that cannot be used, a name that a living worker has.",
    command: "An argument, parameter, file or setting is wrong, or the request is not known.",
    restart: "yes, with a growing pause: the cause may lie outside the settings (a port that is being freed, a disk that is mounted late)",
  },
  {
    code: EXIT.unavailable,
    short: "Redis, the object store, a device or the model is not available",
    service:
      "Something outside refuses to work: Redis (password, rights, replica, full, wrong protocol), the object store (permissions, credentials, bucket), a device that was asked for. What is only away is waited for.",
    command: "Redis, the object store, the gateway, a model or a device is not available.",
    restart: "yes, with a growing pause: it starts once the cause is mended",
  },
  {
    code: EXIT.timeout,
    short: "--timeout passed before the job ended",
    service: null,
    command: "`--timeout` passed before the job ended; the job goes on.",
    restart: "",
  },
  {
    code: EXIT.interrupted,
    short: "interrupted (Ctrl-C)",
    service: "More signals came than the program answers in order; the last was SIGINT. Locks of its jobs expire.",
    command: "SIGINT ended it. `submit` cancels its job first; a second one does not wait for that.",
    restart: "no: somebody stopped it",
  },
  {
    code: EXIT.terminated,
    short: "terminated (SIGTERM)",
    service: "The same, and the last was SIGTERM.",
    command: "The same with SIGTERM.",
    restart: "no: somebody stopped it",
  },
];

export const EXIT_CODES_HELP: string = `
Exit codes:
${EXIT_CODES.map(({ code, short }) => `  ${String(code).padEnd(4)} ${short}`).join("\n")}
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
