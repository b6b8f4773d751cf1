/**
 * Why a URL that a client supplied was not fetched:
 *   refused     the URL, or an address behind its host, is not allowed; nothing was sent
 *   redirect    the server sent elsewhere; never followed
 *   status      another answer than wanted
 *   timeout     no whole answer in time
 *   too-large   more bytes than allowed
 *   network     no such host, no connection, bad certificate, connection cut
 */
export type FetchFailureReason = "refused" | "redirect" | "status" | "timeout" | "too-large" | "network";

/** `message` may be shown to the client: it names no address that a name of ours resolves to. */
export class FetchFailure extends Error {
  readonly reason: FetchFailureReason;
  /** The address that was refused, for our own logs. */
  readonly address: string | null;

  constructor(reason: FetchFailureReason, message: string, options: { readonly cause?: unknown; readonly address?: string } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FetchFailure";
    this.reason = reason;
    this.address = options.address ?? null;
  }
}
