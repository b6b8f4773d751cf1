/**
 * Any page may call the API: keys travel in a header that no browser sends by itself, so there is nothing that another origin could borrow.
 * The same on every answer, errors too, or a page could not read why it was refused.
 */
export const CORS_HEADERS: Readonly<Record<string, string>> = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers": [
    "Accept-Post",
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Retry-After",
    "WWW-Authenticate",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Type",
    "X-Request-Id",
  ].join(", "),
};

const METHODS = "GET, HEAD, POST, PUT, DELETE";
/** A browser keeps the answer to a preflight for so long (Chromium: at most 2 h). */
const MAX_AGE_S = 7_200;

/** The answer to a preflight (Fetch, 4.8): whatever a page wants to send may be sent; null for any other OPTIONS request. */
export function preflightHeaders(
  headers: Readonly<Record<string, string | string[] | undefined>>,
): Readonly<Record<string, string>> | null {
  if (headers["origin"] === undefined || headers["access-control-request-method"] === undefined) return null;
  const asked = headers["access-control-request-headers"];
  return {
    "Access-Control-Allow-Methods": METHODS,
    // A star would leave Authorization out.
    ...(typeof asked === "string" && { "Access-Control-Allow-Headers": asked }),
    "Access-Control-Max-Age": String(MAX_AGE_S),
    Vary: "Access-Control-Request-Headers",
  };
}
