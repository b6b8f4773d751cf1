import { errnoOf } from "../lib/errno.ts";
import { certificateTrouble } from "../lib/certificate-trouble.ts";
import { AppError } from "../protocol/error.ts";

/** What was tried, for the message. `key` is the full key in the bucket. */
export interface S3Action {
  readonly verb: string;
  readonly bucket: string;
  readonly key: string;
  readonly endpoint: string | undefined;
}

/** Codes with a 4xx status that a later try may not meet: damage or delay on the wire, throttling. */
const TRANSIENT = new Set([
  "RequestTimeout",
  "SlowDown",
  "Throttling",
  "ThrottlingException",
  "TooManyRequests",
  "RequestThrottled",
  "IncompleteBody",
  "BadDigest",
  "XAmzContentSHA256Mismatch",
  "OperationAborted",
  // A multipart upload that a lifecycle rule or a concurrent cleaner ended: a fresh upload works.
  "NoSuchUpload",
]);

const HINTS: Readonly<Record<string, string>> = {
  NoSuchBucket: "create the bucket or correct its name",
  AccessDenied: "the keys lack a permission: GetObject, PutObject, DeleteObject, ListBucket and AbortMultipartUpload are needed",
  InvalidAccessKeyId: "the access key is unknown to this server",
  SignatureDoesNotMatch: "the secret key is wrong",
  RequestTimeTooSkewed: "this machine's clock is off",
  PermanentRedirect: "the bucket is in another region; set region",
  AuthorizationHeaderMalformed: "the bucket is in another region; set region",
  CredentialsProviderError:
    "no keys were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role of the pod or machine",
};

/** Status of an S3 answer, undefined when there was none (transport failed, keys not found). */
export function s3Status(thrown: unknown): number | undefined {
  if (typeof thrown !== "object" || thrown === null || !("$metadata" in thrown)) return undefined;
  const metadata = thrown.$metadata;
  if (typeof metadata !== "object" || metadata === null || !("httpStatusCode" in metadata)) return undefined;
  return typeof metadata.httpStatusCode === "number" ? metadata.httpStatusCode : undefined;
}

/** True when the answer was that there is no such object (a missing bucket is another thing where the server says so). */
export function isNoSuchKey(thrown: unknown): boolean {
  return s3Status(thrown) === 404 && s3Code(thrown) !== "NoSuchBucket";
}

/** Decides whether waiting helps: STORAGE_UNAVAILABLE, or a person: STORAGE_REJECTED. */
export function asStorageError(thrown: unknown, action: S3Action): AppError {
  if (thrown instanceof AppError) return thrown;
  const status = s3Status(thrown);
  const code = s3Code(thrown);
  const where = `${action.verb} s3://${action.bucket}/${action.key}${action.endpoint === undefined ? "" : ` at ${action.endpoint}`}`;
  const what = [code, status === undefined ? "" : `HTTP ${status}`, describe(thrown)].filter((part) => part !== "").join(", ");
  const trouble = certificateTrouble(`${code} ${describe(thrown)}`);
  const hint = HINTS[code] ?? (trouble === null ? undefined : `${trouble.words}: ${trouble.advice}`);
  const message = `${where}: ${what}${hint === undefined ? "" : `; ${hint}`}`;
  return new AppError(isTransient(status, code, thrown) ? "STORAGE_UNAVAILABLE" : "STORAGE_REJECTED", message, { cause: thrown });
}

function isTransient(status: number | undefined, code: string, thrown: unknown): boolean {
  if (TRANSIENT.has(code)) return true;
  // 501: the server will not learn it by waiting.
  if (status !== undefined) return status === 408 || status === 429 || (status >= 500 && status !== 501) || status < 300;
  // Without an answer: the transport, unless the client refused to send at all (no keys, no region).
  if (code === "CredentialsProviderError" || code === "TokenProviderError") return false;
  return errnoOf(thrown) !== undefined || code === "TimeoutError" || !describe(thrown).includes("Region is missing");
}

function s3Code(thrown: unknown): string {
  if (!(thrown instanceof Error)) return "";
  if ("Code" in thrown && typeof thrown.Code === "string") return thrown.Code;
  const errno = errnoOf(thrown);
  return thrown.name === "Error" || thrown.name === "AggregateError" ? (errno ?? "") : thrown.name;
}

function describe(thrown: unknown): string {
  if (!(thrown instanceof Error)) return String(thrown);
  // A refused connection to a name with several addresses has its text inside.
  if (thrown instanceof AggregateError && thrown.message === "") return thrown.errors.map(describe).join(", ");
  return thrown.message === s3Code(thrown) ? "" : thrown.message;
}
