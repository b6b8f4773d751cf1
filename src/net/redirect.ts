import type { IncomingMessage } from "node:http";
import { FetchFailure } from "./fetch-failure.ts";

/** As many as links that are shortened, made secure and signed have between them. */
export const MAX_REDIRECTS = 5;
/** Of a redirect: signed links are long. */
const MAX_LOCATION_CHARS = 8_192;

/** Judges a URL before anything is sent to it. @throws FetchFailure refused */
export type CheckUrl = (url: string, maxChars?: number) => URL;

/** 300 leads on where it says where to; 304 to 306 are no answers to what we ask. */
const REDIRECTS: ReadonlySet<number> = new Set([300, 301, 302, 303, 307, 308]);

export function isRedirect({ statusCode = 0 }: IncomingMessage): boolean {
  return REDIRECTS.has(statusCode);
}

/**
 * Where an answer leads, judged like the first URL. `seen`: all URLs so far, that of the answer last.
 * @throws FetchFailure answer (it says nothing usable) | redirect (too many, or in a circle) | refused
 */
export function nextUrl(answer: IncomingMessage, seen: readonly URL[], check: CheckUrl): URL {
  const { statusCode: status } = answer;
  const from = seen.at(-1);
  // `headers` keeps the first of several.
  const given = answer.headersDistinct["location"] ?? [];
  const [location] = given;
  if (location === undefined) throw new FetchFailure("answer", `the server answered ${status} without saying where to go`);
  if (given.some((other) => other !== location))
    throw new FetchFailure("answer", `the server answered ${status} with several places to go to`);
  if (seen.length > MAX_REDIRECTS) throw new FetchFailure("redirect", `more than ${MAX_REDIRECTS} redirects lead from it`);
  const resolved = URL.parse(escapeBytes(location), from?.href);
  if (resolved === null) throw new FetchFailure("answer", `the server answered ${status} with a place to go to that is no URL`);
  const next = judged(resolved.href, check);
  if (from?.protocol === "https:" && next.protocol !== "https:")
    throw new FetchFailure("refused", "a redirect leads from https to http, where anybody on the way could change the file");
  // What differs behind # alone is the same to the server.
  next.hash = "";
  if (seen.some((url) => sameToServer(url, next))) throw new FetchFailure("redirect", "a redirect leads back to where it came from");
  return next;
}

function judged(href: string, check: CheckUrl): URL {
  try {
    return check(href, MAX_LOCATION_CHARS);
  } catch (thrown) {
    if (!(thrown instanceof FetchFailure)) throw thrown;
    const { message, reason, address } = thrown;
    throw new FetchFailure(reason, `a redirect leads elsewhere: ${message}`, { cause: thrown, address });
  }
}

function sameToServer(a: URL, b: URL): boolean {
  return a.origin === b.origin && a.pathname === b.pathname && a.search === b.search;
}

/** Headers are read as bytes: those that are not ASCII go back to the server as they came. */
function escapeBytes(location: string): string {
  return location.replaceAll(/[\u0080-\u00FF]/g, (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase()}`);
}
