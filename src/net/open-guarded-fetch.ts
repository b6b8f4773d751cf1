import { checkUrl } from "./check-url.ts";
import { downloadFile, type Downloaded, type DownloadRequest } from "./download-file.ts";
import { createEgressPolicy } from "./egress-policy.ts";
import { openGetter } from "./get-answer.ts";
import { guardedLookup, type Resolve } from "./guarded-lookup.ts";
import { openKeptAgents } from "./kept-agents.ts";
import type { CheckUrl } from "./redirect.ts";
import { sendPost, type Answer, type SendRequest } from "./send-post.ts";

export interface GuardedFetchOptions {
  /** Private ranges that may be reached all the same, as CIDR. */
  readonly egressAllow: readonly string[];
  readonly allowHttp: boolean;
  /** How host names become addresses; the system's way by default. */
  readonly resolve?: Resolve;
  /** Certificates (PEM, one each) to trust instead of the system's. */
  readonly ca?: readonly string[];
  /** By which connections of `send` grow too old to be used again: milliseconds of a clock that never goes back. */
  readonly now?: () => number;
  /** What downloads call themselves. */
  readonly userAgent?: string;
}

/** The only way to a URL that a client supplied. */
export interface GuardedFetch extends AsyncDisposable {
  /** POST. Any status is an answer; redirects are not followed. @throws FetchFailure | `signal.reason` */
  send(post: SendRequest): Promise<Answer>;
  /** GET into a file, over at most MAX_REDIRECTS redirects, each judged like the URL itself. @throws FetchFailure | `signal.reason` */
  download(get: DownloadRequest): Promise<Downloaded>;
}

/** @throws AppError CONFIG_INVALID for a range that is none */
export function openGuardedFetch(options: GuardedFetchOptions): GuardedFetch {
  const { allowHttp, userAgent = "dryapi-worker" } = options;
  const policy = createEgressPolicy(options.egressAllow);
  const lookup = guardedLookup(policy, options.resolve);
  const ca = options.ca === undefined ? {} : { ca: options.ca };
  const kept = openKeptAgents({ lookup, ...ca, ...(options.now !== undefined && { now: options.now }) });
  const getter = openGetter({ lookup, userAgent, ...ca });
  const check: CheckUrl = (url, maxChars) => checkUrl(url, { policy, allowHttp, ...(maxChars !== undefined && { maxChars }) });
  return {
    send: async (post) => sendPost(kept, check(post.url), post),
    download: (get) => downloadFile({ getter, check }, get),
    [Symbol.asyncDispose]: async () => {
      kept[Symbol.dispose]();
      getter[Symbol.dispose]();
    },
  };
}
