import { pino, stdTimeFunctions, type DestinationStream, type Logger as PinoLogger } from "pino";
import { createRedactor } from "../protocol/redact.ts";
import { formatLogLine } from "./format-log-line.ts";
import { serializeError } from "./serialize-error.ts";

/** pino's logger: `log.info({ job, model }, "text")`. Errors go under `err`. */
export type Logger = PinoLogger;

export interface LoggerOptions {
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "silent";
  readonly format?: "json" | "text";
  /** Fields on every line, e.g. `{ worker: "gpu-7" }`. */
  readonly base?: Readonly<Record<string, unknown>>;
  /** Values that never appear, wherever they turn up (see `secretValues` in config/config.ts). */
  readonly secrets?: readonly string[];
  /** File descriptor (1 = stdout, the default) or a stream. Descriptors are written without blocking, and flushed at exit. */
  readonly destination?: 1 | 2 | DestinationStream;
}

/** What a line about a job carries, so that one grep finds its whole life. */
export interface JobFields {
  readonly job: string;
  readonly model: string;
  readonly claim: number;
}

export function createLogger(options: LoggerOptions): Logger {
  const redact = createRedactor(options.secrets ?? []);
  const { destination = 1 } = options;
  const stream = typeof destination === "number" ? pino.destination({ dest: destination, sync: false }) : destination;
  return pino(
    {
      level: options.level,
      base: options.base === undefined ? { pid: process.pid } : { pid: process.pid, ...options.base },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      // `error` is a job's ErrorData, plain already.
      serializers: { err: serializeError, cause: serializeError },
      // On the finished line, not on single fields: a secret inside a message, a stack or a cause is caught like any other.
      hooks: { streamWrite: options.format === "text" ? (line) => formatLogLine(redact(line)) : redact },
    },
    stream,
  );
}

export function jobLogger(log: Logger, fields: JobFields): Logger {
  return log.child(fields);
}
