import { extname } from "node:path";
import type { RequestRecord } from "../protocol/request.ts";
import type { ResultFile } from "../protocol/result.ts";
import type { Secrets } from "../state/open-secrets.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import { signResultLink } from "./result-link.ts";

export interface LinkDeps {
  readonly config: { readonly resultLinks: "gateway" | "direct"; readonly retentionMs: number };
  readonly store: Pick<ObjectStore, "presign">;
  readonly secrets: Pick<Secrets, "get">;
  /** Base of links to the gateway, without a trailing slash. */
  readonly publicUrl: () => string;
}

/** Presigned links, where they are handed out directly: at most what S3 allows. */
const MAX_DIRECT_MS = 7 * 86_400_000;

/** A link of ours that lives as long as the result, or the store's own where the operator wants that. */
export async function linkToFile(
  deps: LinkDeps,
  record: Pick<RequestRecord, "id" | "createdAt">,
  file: Pick<ResultFile, "key" | "name">,
): Promise<string> {
  const { config } = deps;
  if (config.resultLinks === "direct") {
    const expiresInMs = Math.min(config.retentionMs, MAX_DIRECT_MS);
    const direct = await deps.store.presign(file.key, { expiresInMs, downloadName: `${record.id}${extname(file.name)}` });
    if (direct !== null) return direct;
  }
  const expiresAt = Math.floor((record.createdAt + config.retentionMs) / 1_000);
  return signResultLink(deps.publicUrl(), await deps.secrets.get("result-links"), { id: record.id, file: file.name, expiresAt });
}
