/** Whole seconds, or a date (RFC 9110, section 10.2.3). */
const SECONDS = /^\d{1,9}$/;
/** All forms of a date begin with a day's name; `Date.parse` alone reads one into "-5", too. */
const DATE = /^[A-Z][a-z]{2,8},? /;

/**
 * How long a server asks not to be asked again, milliseconds; null when it does not say so readably. A date counts from the answer's own
 * `Date`, so that neither clock has to be right.
 */
export function parseRetryAfter(value: string | undefined, date: string | undefined, now: number = Date.now()): number | null {
  const text = value?.trim() ?? "";
  if (SECONDS.test(text)) return Number(text) * 1_000;
  const until = DATE.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(until)) return null;
  const from = Date.parse(date ?? "");
  return Math.max(0, until - (Number.isNaN(from) ? now : from));
}
