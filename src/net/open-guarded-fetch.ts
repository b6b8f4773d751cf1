import type { Readable } from "node:stream";
import { Agent, request, type Dispatcher } from "undici";
import { checkUrl } from "./check-url.ts";
import { createEgressPolicy } from "./egress-policy.ts";
import { downloadFile, type Downloaded, type DownloadRequest } from "./download-file.ts";
import { asFetchFailure, FetchFailure } from "./fetch-failure.ts";
import { guardedLookup, type Resolve } from "./guarded-lookup.ts";
import type { CheckUrl } from "./redirect.ts";

export interface GuardedFetchOptions {
  /** Private ranges that may be reached all the same, as CIDR. */
  readonly egressAllow: readonly string[];
  readonly allowHttp: boolean;
  /** How host names become addresses; the system's way by default. */
  readonly resolve?: Resolve;
  /** Certificates (PEM, one each) to trust instead of the system's. */
  readonly ca?: readonly string[];
  /** What downloads call themselves. */
  readonly userAgent?: string;
}

export interface SendRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** From the look-up of the host to the status line. */
  readonly timeoutMs: number;
  /** Of the answer, more is not read. */
  readonly maxAnswerBytes: number;
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  /** The first bytes of the answer's body; fewer when it came too slowly. */
  readonly body: Buffer;
}

/** The only way to a URL that a client supplied. */
export interface GuardedFetch extends AsyncDisposable {
  /** POST. Any status is an answer; redirects are not followed. @throws FetchFailure | `signal.reason` */
  send(post: SendRequest): Promise<Answer>;
  /** GET into a file, over at most MAX_REDIRECTS redirects, each judged like the URL itself. @throws FetchFailure | `signal.reason` */
  download(get: DownloadRequest): Promise<Downloaded>;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** How long the body of an answer is waited for once its status is known. */
const ANSWER_BODY_MS = 2_000;

/** @throws AppError CONFIG_INVALID for a range that is none */
export function openGuardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const policy = createEgressPolicy(options.egressAllow);
  const agent = new Agent({
    connect: {
      lookup: guardedLookup(policy, options.resolve),
      timeout: CONNECT_TIMEOUT_MS,
      ...(options.ca !== undefined && { ca: [...options.ca] }),
    },
    // No connection is used twice: the next request looks the host up and judges it anew.
    pipelining: 0,
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const { allowHttp, userAgent = "dryapi-worker" } = options;
  const check: CheckUrl = (url, maxChars) => checkUrl(url, { policy, allowHttp, ...(maxChars !== undefined && { maxChars }) });
  const parts = { dispatcher: agent, check, userAgent, connectMs: CONNECT_TIMEOUT_MS };
  return {
    send: (post) => send(agent, check, post),
    download: (get) => downloadFile(parts, get),
    [Symbol.asyncDispose]: () => agent.destroy(),
  };
}

async function send(dispatcher: Dispatcher, check: CheckUrl, post: SendRequest): Promise<Answer> {
  const url = check(post.url);
  using limit = deadline(post.timeoutMs, post.signal);
  const { headers, body, maxAnswerBytes } = post;
  const answer = await asFailure(limit, () => request(url, { method: "POST", headers, body, dispatcher, signal: limit.signal }));
  limit.extend(ANSWER_BODY_MS);
  return { status: answer.statusCode, body: await firstBytes(answer.body, maxAnswerBytes) };
}

/** What has come when the limit is reached, the stream ends or breaks. */
async function firstBytes(body: Readable, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= limit) break;
    }
  } catch {
    // The status counts; of the body we keep what we have.
  }
  return Buffer.concat(chunks).subarray(0, limit);
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
    throw asFetchFailure(thrown, CONNECT_TIMEOUT_MS);
  }
}
