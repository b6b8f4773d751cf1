import { Agent, request, type Dispatcher } from "undici";
import { saveStream } from "../lib/save-stream.ts";
import { checkUrl } from "./check-url.ts";
import { createEgressPolicy } from "./egress-policy.ts";
import { FetchFailure } from "./fetch-failure.ts";
import { guardedLookup, type Resolve } from "./guarded-lookup.ts";
import { openKeptAgents } from "./kept-agents.ts";
import { sendPost, type Answer, type SendRequest } from "./send-post.ts";

export interface GuardedFetchOptions {
  /** Private ranges that may be reached all the same, as CIDR. */
  readonly egressAllow: readonly string[];
  readonly allowHttp: boolean;
  /** How host names become addresses; the system's way by default. */
  readonly resolve?: Resolve;
  /** Certificates (PEM, one each) to trust instead of the system's. */
  readonly ca?: readonly string[];
}

export interface DownloadRequest {
  readonly url: string;
  /** Appears only when whole. */
  readonly path: string;
  readonly maxBytes: number;
  /** For the whole of it. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Downloaded {
  readonly sizeBytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
  /** What the server says it is: not to be believed. */
  readonly contentType: string | null;
}

/** The only way to a URL that a client supplied. Redirects are never followed: where they lead was judged by nobody. */
export interface GuardedFetch extends AsyncDisposable {
  /** POST. Any status is an answer. @throws FetchFailure | `signal.reason` */
  send(post: SendRequest): Promise<Answer>;
  /** GET into a file. @throws FetchFailure | `signal.reason` */
  download(get: DownloadRequest): Promise<Downloaded>;
}

const CONNECT_TIMEOUT_MS = 5_000;

/** @throws AppError CONFIG_INVALID for a range that is none */
export function openGuardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const policy = createEgressPolicy(options.egressAllow);
  const lookup = guardedLookup(policy, options.resolve);
  const ca = options.ca === undefined ? {} : { ca: options.ca };
  const kept = openKeptAgents({ lookup, ...ca });
  const agent = new Agent({
    connect: {
      lookup,
      timeout: CONNECT_TIMEOUT_MS,
      ...(options.ca !== undefined && { ca: [...options.ca] }),
    },
    // No connection is used twice: the next request looks the host up and judges it anew.
    pipelining: 0,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const check = (url: string): URL => checkUrl(url, { policy, allowHttp: options.allowHttp });
  return {
    send: async (post) => sendPost(kept, check(post.url), post),
    download: (get) => download(agent, check, get),
    [Symbol.asyncDispose]: async () => {
      kept[Symbol.dispose]();
      await agent.destroy();
    },
  };
}

type Check = (url: string) => URL;

async function download(dispatcher: Dispatcher, check: Check, get: DownloadRequest): Promise<Downloaded> {
  const url = check(get.url);
  using limit = deadline(get.timeoutMs, get.signal);
  const { path, maxBytes } = get;
  const tooLarge = (): FetchFailure => new FetchFailure("too-large", `the file is larger than the allowed ${maxBytes} bytes`);
  return await asFailure(limit, async () => {
    const answer = await request(url, { method: "GET", dispatcher, signal: limit.signal });
    const refused = checkAnswer(answer) ?? (Number(answer.headers["content-length"] ?? 0) > maxBytes ? tooLarge() : null);
    if (refused !== null) {
      answer.body.on("error", () => undefined).destroy();
      throw refused;
    }
    const saved = await saveStream(answer.body, path, { maxBytes, tooLarge, signal: limit.signal });
    const contentType = answer.headers["content-type"];
    return { ...saved, contentType: typeof contentType === "string" ? contentType : null };
  });
}

function checkAnswer({ statusCode }: Dispatcher.ResponseData): FetchFailure | null {
  if (statusCode >= 300 && statusCode < 400)
    return new FetchFailure("redirect", `the server answered ${statusCode}, which sends elsewhere; redirects are not followed`);
  return statusCode === 200 ? null : new FetchFailure("status", `the server answered ${statusCode}, expected 200`);
}

interface Deadline extends Disposable {
  readonly signal: AbortSignal;
  /** Why it is over, when it is. */
  readonly reason: () => unknown;
  readonly extend: (ms: number) => void;
}

/** One bound for everything: undici's own timeouts begin anew with each byte that drips in. */
function deadline(ms: number, outer: AbortSignal | undefined): Deadline {
  const over = new AbortController();
  const expire = (limit: number): NodeJS.Timeout =>
    setTimeout(() => over.abort(new FetchFailure("timeout", `no answer within ${limit / 1_000} s`)), limit);
  let timer = expire(ms);
  const signal = outer === undefined ? over.signal : AbortSignal.any([over.signal, outer]);
  return {
    signal,
    reason: () => signal.reason as unknown,
    extend: (limit) => {
      clearTimeout(timer);
      timer = expire(limit);
    },
    [Symbol.dispose]: () => clearTimeout(timer),
  };
}

/** @throws FetchFailure, or the reason of the caller's own signal */
async function asFailure<T>(limit: Deadline, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    if (limit.signal.aborted) throw limit.reason();
    throw failureOf(thrown);
  }
}

function failureOf(thrown: unknown): Error {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof FetchFailure) return error;
    // A host with several addresses: the first one tells enough.
    const first = error instanceof AggregateError ? (error.errors[0] as unknown) : undefined;
    if (first instanceof FetchFailure) return first;
  }
  const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
  if (["ENOSPC", "EACCES", "EROFS", "EEXIST"].includes(code)) return thrown as Error;
  if (code === "UND_ERR_CONNECT_TIMEOUT")
    return new FetchFailure("timeout", `no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`, { cause: thrown });
  return new FetchFailure("network", `the connection failed${code === "" ? "" : ` (${code})`}`, { cause: thrown });
}
