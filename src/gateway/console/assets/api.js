import { savedKey } from "./key.js";

/** Where this page is: the gateway may stand below a path of a proxy's. */
export const BASE = new URL(".", document.baseURI);

let refused = () => {};
/** Calls when a key that was accepted is accepted no more. */
export const onRefused = (handler) => (refused = handler);

export class Problem extends Error {
  constructor(status, body) {
    super(
      Object.values(body.errors ?? {})
        .flat()
        .join(" ") ||
        body.message ||
        `The server answered ${status}.`,
    );
    this.status = status;
    this.errors = body.errors ?? {};
  }
}

/** JSON in, JSON out; forms as they are. Throws Problem; TypeError when there is no answer. */
export async function call(method, path, body) {
  const isForm = body instanceof FormData;
  const headers = {
    Authorization: `Bearer ${savedKey()}`,
    ...(body === undefined || isForm ? {} : { "Content-Type": "application/json" }),
  };
  const response = await fetch(new URL(path.startsWith("/") ? path.slice(1) : `api/v1/client/${path}`, BASE), {
    method,
    headers,
    body: body === undefined || isForm ? body : JSON.stringify(body),
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const problem = new Problem(response.status, answer);
  if (response.status === 401) refused(problem);
  throw problem;
}

/**
 * A result's link as this page may load it. Links name the gateway's public address. Where the page was opened under another one, through a
 * proxy or as localhost, the same file is here, too, and the browser loads it from here alone. Links of an object store stay.
 */
export function here(url) {
  const { pathname, search, searchParams } = new URL(url, BASE);
  const [, file] = /\/(r\/[0-9a-f-]{36}\/[^/]+)$/.exec(pathname) ?? [];
  return file && searchParams.has("exp") && searchParams.has("sig") ? new URL(file + search, BASE).href : url;
}
