import { AppError } from "../protocol/error.ts";
import { checkPrefix } from "./object-key.ts";
import type { ObjectStoreOptions } from "./object-store.ts";

export interface S3Config {
  readonly bucket: string;
  /** Empty, or ends in `/`; put before every key. */
  readonly prefix: string;
  /** Undefined = AWS itself. */
  readonly endpoint: string | undefined;
  /** Undefined = as the AWS chain says (AWS_REGION, profile). */
  readonly region: string | undefined;
  readonly forcePathStyle: boolean;
  readonly publicEndpoint: string | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly idleTimeoutMs: number;
  readonly maxAttempts: number;
  readonly partSizeBytes: number;
  readonly partLanes: number;
}

/** S3's least size of a part but the last. */
export const MIN_PART_BYTES: number = 5 * 1024 * 1024;
/** S3's most parts of an upload. */
export const MAX_PARTS = 10_000;

const QUERY_NAMES = new Set(["endpoint", "region", "forcePathStyle", "publicEndpoint"]);

/**
 * Reads `s3://bucket/prefix?endpoint=...&region=...&forcePathStyle=1&publicEndpoint=...`; options win over the query.
 * Path style is the default for a custom endpoint, since few of those have a wildcard DNS name.
 * @throws AppError CONFIG_INVALID that names the part of the URL
 */
export function parseS3Config(url: URL, options: ObjectStoreOptions): S3Config {
  const refuse = (text: string): AppError => new AppError("CONFIG_INVALID", `object store URL: ${text}`);
  if (url.hostname === "") throw refuse("there is no bucket; expected s3://bucket/prefix");
  if (url.username !== "" || url.password !== "")
    throw refuse("keys do not belong into the URL; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
  if (url.port !== "") throw refuse("a bucket has no port; name the server with ?endpoint=http://host:port");
  for (const name of url.searchParams.keys()) {
    if (!QUERY_NAMES.has(name)) throw refuse(`${name} is not known; expected ${[...QUERY_NAMES].join(", ")}`);
  }
  const query = (name: string): string | undefined => url.searchParams.get(name) ?? undefined;
  const endpoint = checkEndpoint("endpoint", options.endpoint ?? query("endpoint"));
  const partSizeBytes = options.partSizeBytes ?? MIN_PART_BYTES;
  if (partSizeBytes < MIN_PART_BYTES)
    throw new AppError("CONFIG_INVALID", `part size ${partSizeBytes} is below S3's least of ${MIN_PART_BYTES} bytes`);
  return {
    bucket: url.hostname,
    prefix: parsePrefix(url),
    endpoint,
    // Custom servers rarely look at the region, but the signature needs one.
    region: options.region ?? query("region") ?? (endpoint === undefined ? undefined : "us-east-1"),
    forcePathStyle: options.forcePathStyle ?? parseFlag(query("forcePathStyle")) ?? endpoint !== undefined,
    publicEndpoint: checkEndpoint("publicEndpoint", options.publicEndpoint ?? query("publicEndpoint")),
    connectTimeoutMs: options.connectTimeoutMs ?? 5_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 120_000,
    idleTimeoutMs: options.idleTimeoutMs ?? 30_000,
    maxAttempts: options.maxAttempts ?? 3,
    partSizeBytes,
    partLanes: options.partLanes ?? 4,
  };
}

/** A part size that fits `sizeBytes` into S3's 10,000 parts, in whole MiB. */
export function planPartSize(sizeBytes: number, leastBytes: number): number {
  const mebibyte = 1024 * 1024;
  const needed = Math.ceil(sizeBytes / MAX_PARTS / mebibyte) * mebibyte;
  return Math.max(leastBytes, needed);
}

function parsePrefix(url: URL): string {
  let prefix: string;
  try {
    prefix = decodeURIComponent(url.pathname).replace(/^\/+|\/+$/g, "");
  } catch (cause) {
    throw new AppError("CONFIG_INVALID", `object store URL: prefix ${url.pathname} is not valid percent-encoding`, { cause });
  }
  if (prefix === "") return "";
  try {
    return checkPrefix(`${prefix}/`);
  } catch (cause) {
    throw new AppError("CONFIG_INVALID", `object store URL: prefix ${JSON.stringify(prefix)} is not allowed`, { cause });
  }
}

function parseFlag(text: string | undefined): boolean | undefined {
  if (text === undefined) return undefined;
  if (["1", "true"].includes(text)) return true;
  if (["0", "false"].includes(text)) return false;
  throw new AppError("CONFIG_INVALID", `object store URL: forcePathStyle is ${JSON.stringify(text)}, expected 1 or 0`);
}

function checkEndpoint(name: string, text: string | undefined): string | undefined {
  if (text === undefined || text === "") return undefined;
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !["http:", "https:"].includes(url.protocol)) {
    throw new AppError("CONFIG_INVALID", `object store URL: ${name} is ${JSON.stringify(text)}, expected http://host:port or https://host`);
  }
  return text;
}
