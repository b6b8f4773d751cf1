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
/** Answers that undici refuses to read as HTTP; its parser's own errors have no such code. */
const NOT_HTTP: Readonly<Record<string, string>> = {
  UND_ERR_HEADERS_OVERFLOW: "the server's headers are too large",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "the server's answer contradicts itself about its length",
};

/** What undici, a look-up or a file threw, as a FetchFailure; what is wrong on our side stays as it is. `connectMs`: the limit of a connection. */
export function asFetchFailure(thrown: unknown, connectMs: number): Error {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof FetchFailure) return error;
    // A host with several addresses: the first one tells enough.
    const first = error instanceof AggregateError ? (error.errors[0] as unknown) : undefined;
    if (first instanceof FetchFailure) return first;
  }
  const code = thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
  const cause = thrown;
  if (OWN_DISK.has(code)) return thrown as Error;
  if (code === "UND_ERR_CONNECT_TIMEOUT") return new FetchFailure("timeout", `no connection within ${connectMs / 1_000} s`, { cause });
  if (CERTIFICATE.test(code)) return new FetchFailure("certificate", `the server's certificate is not valid (${code})`, { cause });
  if (UNDECODABLE.test(code)) return new FetchFailure("answer", "the server's encoding of the file cannot be decoded", { cause });
  const unusable =
    NOT_HTTP[code] ?? (thrown instanceof Error && thrown.name === "HTTPParserError" ? "the server does not answer as HTTP says" : null);
  if (unusable !== null) return new FetchFailure("answer", unusable, { cause });
  return new FetchFailure("network", `the connection failed${code === "" ? "" : ` (${code})`}`, { cause });
}
