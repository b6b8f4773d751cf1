import { AppError } from "../protocol/error.ts";

export interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string;
  readonly stack?: string;
  readonly blackBox?: object;
  readonly cause?: LoggedError;
}

/** A chain of causes longer than this is cut: it would be a cycle, or nobody would read it. */
const MAX_CAUSES = 5;

/** Any thrown value as plain JSON: its code, its black box and its chain of causes. Fields that libraries hang on errors are left out. */
export function serializeError(thrown: unknown, depth: number = 0): LoggedError {
  if (!(thrown instanceof Error)) return { type: typeof thrown, message: textOf(thrown) };
  const code = "code" in thrown && (typeof thrown.code === "string" || typeof thrown.code === "number") ? String(thrown.code) : undefined;
  return {
    type: thrown.name,
    message: thrown.message,
    ...(code === undefined ? {} : { code }),
    ...(thrown.stack === undefined ? {} : { stack: thrown.stack }),
    ...(thrown instanceof AppError && thrown.blackBox !== undefined ? { blackBox: thrown.blackBox } : {}),
    ...(thrown.cause === undefined || depth >= MAX_CAUSES ? {} : { cause: serializeError(thrown.cause, depth + 1) }),
  };
}

function textOf(value: unknown): string {
  if (typeof value === "string") return value;
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
