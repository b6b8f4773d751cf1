import { listFiles, modelInfo } from "@huggingface/hub";
import { realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../protocol/error.ts";
import { parsePullSource, type PullVariant } from "../../protocol/pull-block.ts";

/** A file that is to be had. */
export interface RemoteFile {
  /** Below the model's folder. */
  readonly to: string;
  readonly from: string;
  /** Where from: an address, or a file of this machine. */
  readonly url: URL;
  readonly authorization?: string;
  /** What the manifest, or the hub's own list, says. */
  readonly sizeBytes: number | null;
  readonly sha256: string | null;
}

export interface RemoteModel {
  /** The source with its revision as a commit, where it has one. */
  readonly source: string;
  readonly files: readonly RemoteFile[];
}

export interface SourceOptions {
  /** HF_ENDPOINT and HF_TOKEN. */
  readonly hub: { readonly endpoint: string; readonly token: string | null };
}

/** What a variant consists of, with what its source says of each file. @throws AppError MODEL_NOT_FOUND | STORAGE_REJECTED | STORAGE_UNAVAILABLE */
export async function listRemote(variant: PullVariant, options: SourceOptions): Promise<RemoteModel> {
  const source = parsePullSource(variant.source);
  switch (source.kind) {
    case "hf":
      return listHub(variant, source, options);
    case "http":
      return { source: variant.source, files: variant.files.map((file) => remote(file, new URL(encodePath(file.from), source.base))) };
    case "folder":
      return { source: variant.source, files: await Promise.all(variant.files.map((file) => localFile(source.dir, file))) };
  }
}

type FileOf = PullVariant["files"][number];

function remote(file: FileOf, url: URL, known: { readonly sizeBytes?: number; readonly sha256?: string } = {}): RemoteFile {
  const { from, to = from } = file;
  return { from, to, url, sizeBytes: file.sizeBytes ?? known.sizeBytes ?? null, sha256: file.sha256 ?? known.sha256 ?? null };
}

function encodePath(path: string): string {
  return path.split("/").map(encodeURIComponent).join("/");
}

async function localFile(dir: string, file: FileOf): Promise<RemoteFile> {
  const path = join(dir, file.from);
  try {
    const { size } = await stat(path);
    return remote(file, new URL(`file://${encodePath(await realpath(path))}`), { sizeBytes: size });
  } catch (cause) {
    throw new AppError("MODEL_NOT_FOUND", `${path} cannot be read: ${(cause as Error).message}`, { cause });
  }
}

/** The revision becomes a commit first, so that all files are of one. */
async function listHub(
  variant: PullVariant,
  { repo, revision }: { readonly repo: string; readonly revision: string },
  { hub: { endpoint, token } }: SourceOptions,
): Promise<RemoteModel> {
  const common = { hubUrl: endpoint, ...(token !== null && { accessToken: token }) };
  try {
    const { sha } = await modelInfo({ name: repo, revision, additionalFields: ["sha"], ...common });
    const known = new Map<string, { sizeBytes: number; sha256?: string }>();
    for await (const { path, size, lfs } of listFiles({ repo, revision: sha, recursive: true, ...common }))
      known.set(path, { sizeBytes: lfs?.size ?? size, ...(lfs !== undefined && { sha256: lfs.oid }) });
    const files = variant.files.map((file) => {
      const found = known.get(file.from);
      if (found === undefined)
        throw new AppError(
          "MODEL_NOT_FOUND",
          `${repo} has no file ${file.from} at ${revision} (${sha}): its files were moved, or the manifest is wrong`,
        );
      const url = new URL(`${endpoint}/${repo}/resolve/${sha}/${encodePath(file.from)}`);
      return { ...remote(file, url, found), ...(token !== null && { authorization: `Bearer ${token}` }) };
    });
    return { source: `hf:${repo}@${sha}`, files };
  } catch (thrown) {
    throw thrown instanceof AppError ? thrown : hubError(thrown, `${endpoint}/${repo}`, revision, token);
  }
}

function hubError(thrown: unknown, page: string, revision: string, token: string | null): AppError {
  const status = (thrown as { readonly statusCode?: number }).statusCode;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return (
    refusal(status, `${page} at ${revision}`, page, token) ??
    new AppError("STORAGE_UNAVAILABLE", `${page} cannot be asked: ${message}${causeOf(thrown)}`, { cause: thrown })
  );
}

function causeOf(thrown: unknown): string {
  const { cause } = thrown as { readonly cause?: unknown };
  return cause instanceof Error ? ` (${cause.message})` : "";
}

/** What a status says to whoever pulls; null for one that says nothing about him. */
export function refusal(status: number | undefined, what: string, page: string, token: string | null): AppError | null {
  if (status === 401 || status === 403) {
    const how =
      token === null
        ? `set HF_TOKEN to a token of an account that may read it; where the model is gated, accept its terms at ${page} first`
        : `the account of HF_TOKEN may not read it: accept the model's terms at ${page}, or use another token`;
    return new AppError("STORAGE_REJECTED", `${what}: refused with ${status}: ${how}`);
  }
  // The hub answers so for what is private as well.
  if (status === 404)
    return new AppError("MODEL_NOT_FOUND", `${what}: does not exist (404)${token === null ? ", or is private: then set HF_TOKEN" : ""}`);
  return null;
}
