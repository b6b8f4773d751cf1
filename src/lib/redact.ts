const USER_INFO = /([a-z][a-z0-9+.-]*:\/\/[^\s/:@"']*):([^\s@/"']+)@/gi;
/** Parts of a query that make a link or a call somebody's own. */
const SIGNED_QUERY =
  /([?&](?:X-Amz-(?:Signature|Credential|Security-Token)|[a-z_-]*(?:token|secret|password|api_?key|signature))=)[^&\s"'\\]+/gi;
const BEARER = /\b(Bearer|Basic)(\s+)[A-Za-z0-9._~+/=-]{6,}/gi;
const SECRET_FIELD = /("[a-z_-]*(?:password|passwd|secret|secretaccesskey|token|authorization|api_?key|cookie)"\s*:\s*)"(?:[^"\\]|\\.)*"/gi;

export const REDACTED = "[redacted]";

/** A URL's password, and what signs it, replaced. Text that is no URL comes back with the same rules applied to what looks like one. */
export function redactUrl(text: string): string {
  return text.replaceAll(USER_INFO, `$1:${REDACTED}@`).replaceAll(SIGNED_QUERY, `$1${REDACTED}`);
}

/**
 * Makes a function that removes secrets from text, JSON included: passwords in URLs, signed queries, bearer tokens, string fields that
 * are named like secrets, and the given values wherever they stand.
 */
export function createRedactor(values: readonly string[]): (text: string) => string {
  // As JSON would write them: a log line is JSON.
  const forms = [...new Set(values.flatMap((value) => [value, JSON.stringify(value).slice(1, -1)]))].toSorted(
    (a, b) => b.length - a.length,
  );
  return (text) => {
    let clean = redactUrl(text).replaceAll(BEARER, `$1$2${REDACTED}`).replaceAll(SECRET_FIELD, `$1"${REDACTED}"`);
    for (const form of forms) clean = clean.replaceAll(form, REDACTED);
    return clean;
  };
}
