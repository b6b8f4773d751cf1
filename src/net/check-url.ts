import { isIP } from "node:net";
import type { EgressPolicy } from "./egress-policy.ts";
import { FetchFailure } from "./fetch-failure.ts";

/** Longest URL of a client. */
export const MAX_URL_CHARS = 2_048;

/**
 * Everything that can be said about a URL before anybody is asked for its address. Addresses written in it are judged here: no look-up ever
 * happens for them. The WHATWG parser has turned other spellings (2130706433, 0x7f.1, 017700000001, ①②⑦.0.0.1) into plain ones.
 * @throws FetchFailure refused
 */
export function checkUrl(
  text: string,
  options: { readonly policy: EgressPolicy; readonly allowHttp: boolean; readonly maxChars?: number },
): URL {
  const { maxChars = MAX_URL_CHARS } = options;
  if (text.length > maxChars) throw new FetchFailure("refused", `the URL is longer than ${maxChars} characters`);
  const url = URL.parse(text);
  if (url === null) throw new FetchFailure("refused", "the URL is not valid");
  if (url.protocol !== "https:" && !(options.allowHttp && url.protocol === "http:"))
    throw new FetchFailure("refused", `the URL begins with ${url.protocol}, expected ${options.allowHttp ? "https: or http:" : "https:"}`);
  if (url.username !== "" || url.password !== "") throw new FetchFailure("refused", "the URL holds a user name or password");
  const host = url.hostname.replace(/^\[|\]$/g, "");
  if (host === "" || url.port === "0") throw new FetchFailure("refused", "the URL names no host and port to connect to");
  if (isIP(host) !== 0 && !options.policy.allows(host))
    throw new FetchFailure("refused", "the URL names an address that is not public", { address: host });
  return url;
}
