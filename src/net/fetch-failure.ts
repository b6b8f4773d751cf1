/**
 * Why a URL that a client supplied was not fetched:
 *   refused      the URL, or an address behind its host, is not allowed; nothing was sent there
 *   redirect     it leads from one URL to the next, too often or in a circle
 *   status       another status than wanted
 *   answer       an answer that cannot be used: no HTTP, nowhere to go, nothing in it, an encoding that is not known
 *   certificate  the server does not prove who it is
 *   timeout      no whole answer in time, or too few bytes
 *   too-large    more bytes than allowed
 *   network      no such host, no connection, connection cut
 */
export type FetchFailureReason = "refused" | "redirect" | "status" | "answer" | "certificate" | "timeout" | "too-large" | "network";

export interface FetchFailureOptions {
  readonly cause?: unknown;
  /** The address that was refused, for our own logs. */
  readonly address?: string | null;
  readonly status?: number;
  /** How long the server asks to be left alone. */
  readonly retryAfterMs?: number | null;
}

/** `message` may be shown to the client: it names no address that a name of ours resolves to. */
export class FetchFailure extends Error {
  readonly reason: FetchFailureReason;
  readonly address: string | null;
  /** Only with the reason `status`. */
  readonly status: number | null;
  readonly retryAfterMs: number | null;

  constructor(reason: FetchFailureReason, message: string, options: FetchFailureOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "FetchFailure";
    this.reason = reason;
    this.address = options.address ?? null;
    this.status = options.status ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
  }
}

/** Trouble of our own disk, which is not the URL's fault. */
const OWN_DISK: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EROFS", "EEXIST", "EIO"]);
/** How OpenSSL and Node name what is wrong with a certificate. */
const CERTIFICATE = /^(CERT_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|HOSTNAME_MISMATCH|INVALID_CA|ERR_TLS_CERT_)/;
/** Errors of zlib, brotli and zstd about their data. */
const UNDECODABLE = /^(Z_\w+_ERROR|Z_NEED_DICT|ERR__|ZSTD_error_)/;
/** What node's client, a look-up, a decoder or a file threw, as a FetchFailure; what is wrong on our side stays as it is. */
export function asFetchFailure(thrown: unknown): Error {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof FetchFailure) return error;
    // A host with several addresses: the first one tells enough.
    const first = error instanceof AggregateError ? (error.errors[0] as unknown) : undefined;
    if (first instanceof FetchFailure) return first;
  }
  const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
  const cause = thrown;
  if (OWN_DISK.has(code)) return thrown as Error;
  if (CERTIFICATE.test(code)) return new FetchFailure("certificate", `the server's certificate is not valid (${code})`, { cause });
  if (UNDECODABLE.test(code)) return new FetchFailure("answer", "the server's encoding of the file cannot be decoded", { cause });
  if (code === "HPE_HEADER_OVERFLOW") return new FetchFailure("answer", "the server's headers are too large", { cause });
  // The parser's words for an answer that ends in its middle are those of a cut connection.
  if (code.startsWith("HPE_") && code !== "HPE_INVALID_EOF_STATE")
    return new FetchFailure("answer", `the server does not answer as HTTP says (${code})`, { cause });
  return new FetchFailure("network", `the connection failed${code === "" ? "" : ` (${code})`}`, { cause });
}
