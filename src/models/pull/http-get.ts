import { request as httpRequest, type Agent, type IncomingMessage, type OutgoingHttpHeaders } from "node:http";
import { request as httpsRequest } from "node:https";
import { AppError } from "../../protocol/error.ts";

const MAX_REDIRECTS = 10;

export interface GetOptions {
  readonly headers?: OutgoingHttpHeaders;
  readonly method?: "GET" | "HEAD";
  readonly signal?: AbortSignal;
  /** No byte for so long ends it, ms. */
  readonly stallMs: number;
  readonly agent?: (url: URL) => Agent;
}

/** An answer with its body not yet read; whoever gets it reads or destroys it. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: IncomingMessage;
  /** After redirects. */
  readonly url: URL;
  /** Headers of the answers that redirected here: a hub names digest and size there. */
  readonly redirectedWith: readonly IncomingMessage["headers"][];
}

/**
 * GET that follows redirects. `authorization` goes to the first origin alone: what a hub redirects to is another's server, with a signed
 * address of its own.
 * @throws AppError STORAGE_UNAVAILABLE for a server that does not answer, or redirects without end
 */
export async function httpGet(url: URL, options: GetOptions): Promise<Answer> {
  const redirectedWith: IncomingMessage["headers"][] = [];
  for (let at = url; ;) {
    const isFirst = at.origin === url.origin;
    const { authorization: _authorization, ...others } = options.headers ?? {};
    const body = await once(at, { ...options, headers: isFirst ? (options.headers ?? {}) : others });
    const { statusCode: status = 0, headers } = body;
    const { location } = headers;
    if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return { status, headers, body, url: at, redirectedWith };
    body.destroy();
    redirectedWith.push(headers);
    if (redirectedWith.length > MAX_REDIRECTS)
      throw new AppError("STORAGE_UNAVAILABLE", `${url.href} redirects more than ${MAX_REDIRECTS} times`);
    at = nextUrl(at, location);
  }
}

function nextUrl(from: URL, location: string): URL {
  const next = URL.parse(location, from.href);
  if (
    next === null ||
    (next.protocol !== "https:" && next.protocol !== "http:") ||
    (from.protocol === "https:" && next.protocol === "http:")
  )
    throw new AppError("STORAGE_UNAVAILABLE", `${from.href} redirects to ${location}, which is not followed`);
  return next;
}

function once(url: URL, { method = "GET", headers, signal, stallMs, agent }: GetOptions): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const options = {
    method,
    // As it is on disk: an encoding would change the bytes that are counted.
    headers: { "user-agent": "dryapi-worker", "accept-encoding": "identity", ...headers },
    ...(signal !== undefined && { signal }),
    ...(agent !== undefined && { agent: agent(url) }),
  };
  const sent = url.protocol === "https:" ? httpsRequest(url, options) : httpRequest(url, options);
  let body: IncomingMessage | null = null;
  // Whoever reads the body hears the reason; an end of the request alone would be "aborted".
  sent.setTimeout(stallMs, () => (body ?? sent).destroy(new Error(`no byte for ${stallMs} ms`)));
  sent.on("response", (answer) => {
    body = answer;
    resolve(answer);
  });
  sent.on("error", (cause) => {
    reject(signal?.aborted === true ? signal.reason : new AppError("STORAGE_UNAVAILABLE", `${url.href}: ${cause.message}`, { cause }));
  });
  sent.end();
  return promise;
}
