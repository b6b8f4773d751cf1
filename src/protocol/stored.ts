import { z } from "zod";
import { AppError } from "./error.ts";

/**
 * Values in Redis outlive the program that wrote them: a newer one, or a hand at redis-cli, may have left what this one cannot read. Whoever
 * reads one value throws RECORD_UNREADABLE; whoever reads many takes each through `orUnreadable`, so that one of them spoils no answer about
 * the others.
 */
export interface Unreadable {
  /** Which value it is, and why it cannot be read. */
  readonly unreadable: string;
}

/** A time that a Date can hold. */
export const unixMs: z.ZodType<number> = z.number().nonnegative().max(8.64e15);

/** The value, checked. @throws AppError RECORD_UNREADABLE that names it, its version where that is the reason, or else what is wrong */
export function readStored<T>(
  what: string,
  { schema, newest }: { readonly schema: z.ZodType<T>; readonly newest: number },
  value: unknown,
): T {
  const version = typeof value === "object" && value !== null && "v" in value ? value.v : newest;
  if (typeof version === "number" && version > newest)
    throw new AppError("RECORD_UNREADABLE", `${what} has version ${version}, this program reads up to ${newest}: upgrade this program`);
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = z.prettifyError(parsed.error).replaceAll(/\s*\n\s*/g, " ");
  throw new AppError("RECORD_UNREADABLE", `${what} is damaged: ${problems}`);
}

/** JSON as a value, `undefined` for a text that is none: no schema takes that. */
export function storedJson(text: string | null | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}

/** A number that was stored as a text; null for none. What is no number becomes NaN, which no schema takes. */
export function storedNumber(text: string | null | undefined): number | null {
  return text === undefined || text === null || text === "" ? null : Number(text);
}

export async function orUnreadable<T>(reading: Promise<T>): Promise<T | Unreadable> {
  try {
    return await reading;
  } catch (thrown) {
    if (thrown instanceof AppError && thrown.code === "RECORD_UNREADABLE") return { unreadable: thrown.message };
    throw thrown;
  }
}

export function isUnreadable(value: unknown): value is Unreadable {
  return typeof value === "object" && value !== null && "unreadable" in value;
}
