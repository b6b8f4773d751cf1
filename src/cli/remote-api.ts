import { openAsBlob } from "node:fs";
import { basename, extname, resolve } from "node:path";
import { Readable } from "node:stream";
import { makeFolders } from "../lib/make-folders.ts";
import { saveStream } from "../lib/save-stream.ts";
import { AppError } from "../protocol/error.ts";
import type { Task } from "../protocol/task.ts";
import type { ApiAccess } from "./api-access.ts";
import type { SavedFile } from "./save-files.ts";
import type { SubmitFields } from "./submit-fields.ts";

/** `data` of GET request-status, as far as commands use it. */
export interface RemoteStatus {
  readonly status: "pending" | "processing" | "done" | "error";
  readonly progress: number;
  readonly preview: string | null;
  readonly result_url: string | null;
  readonly results_alt_formats: Readonly<Record<string, string>> | null;
  readonly result: string | null;
  readonly error_reason: string | null;
  readonly error_message: string | null;
  readonly queue_position: number | null;
  /** Absent in the answers of older gateways. */
  readonly waiting_message?: string | null;
  readonly seed: number | null;
  readonly timings: Readonly<Record<string, number>> | null;
}

export interface RemoteSubmitted {
  readonly id: string;
  /** Fields that the model took and did not use. */
  readonly ignored: readonly string[];
}

/** The gateway's API as the commands use it: nothing that any other client could not do. */
export class RemoteApi {
  readonly #access: ApiAccess;

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** @throws AppError INVALID_INPUT with the gateway's words, REDIS_UNAVAILABLE when it cannot take it now */
  async submit(task: Task, { model, fields, files }: SubmitFields, signal: AbortSignal): Promise<RemoteSubmitted> {
    const body = new FormData();
    for (const [name, value] of Object.entries({ ...(model === null ? {} : { model }), ...fields })) body.append(name, value);
    for (const { name, path } of files) body.append(name.replace(/\[\d+\]$/, "[]"), await openAsBlob(path), basename(path));
    const answer = await this.#call("POST", `/api/v1/client/${task}`, { body, signal });
    const { request_id: id, ignored_fields: ignored = [] } = answer["data"] as { request_id: string; ignored_fields?: readonly string[] };
    return { id, ignored };
  }

  async status(id: string, signal?: AbortSignal): Promise<RemoteStatus> {
    const answer = await this.#call("GET", `/api/v1/client/request-status/${id}`, signal === undefined ? {} : { signal });
    return answer["data"] as RemoteStatus;
  }

  async cancel(id: string): Promise<void> {
    await this.#call("POST", `/api/v1/client/requests/${id}/cancel`, {});
  }

  /** All files of a result, as `<id>.<ext>`. */
  async save(id: string, status: RemoteStatus, outDir: string, signal: AbortSignal): Promise<readonly SavedFile[]> {
    await makeFolders(outDir);
    const links = [
      ...(status.result_url === null ? [] : [{ role: "main", url: status.result_url }]),
      ...Object.values(status.results_alt_formats ?? {}).map((url) => ({ role: "alt", url })),
    ];
    return Promise.all(links.map(({ role, url }) => download(url, role, { id, outDir, signal })));
  }

  async #call(
    method: string,
    path: string,
    init: { readonly body?: FormData; readonly signal?: AbortSignal },
  ): Promise<Readonly<Record<string, unknown>>> {
    const { url, key } = this.#access;
    let response: Response;
    try {
      response = await fetch(`${url}${path}`, { method, headers: { Authorization: `Bearer ${key}` }, ...init });
    } catch (thrown) {
      init.signal?.throwIfAborted();
      const why = thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause.message : String(thrown);
      throw new AppError("REDIS_UNAVAILABLE", `the gateway at ${url} does not answer: ${why}`, { cause: thrown });
    }
    const body = (await response.json().catch(() => ({}))) as Readonly<Record<string, unknown>>;
    if (response.ok) return body;
    throw problemOf(response.status, body, `${method} ${url}${path}`);
  }
}

function problemOf(status: number, body: Readonly<Record<string, unknown>>, call: string): AppError {
  const errors = Object.values((body["errors"] ?? {}) as Record<string, readonly string[]>).flat();
  const message = typeof body["message"] === "string" ? body["message"] : "no reason given";
  const text = errors.length > 0 ? errors.join(" ") : message;
  if (status === 401) return new AppError("CONFIG_INVALID", `${call}: the API key is not accepted; check DRYAPI_API_KEY`);
  if (status >= 500) return new AppError("REDIS_UNAVAILABLE", `${call} answered ${status}: ${text}`);
  return new AppError("INVALID_INPUT", status === 422 ? text : `${call} answered ${status}: ${text}`);
}

async function download(
  url: string,
  role: string,
  { id, outDir, signal }: { readonly id: string; readonly outDir: string; readonly signal: AbortSignal },
): Promise<SavedFile> {
  const name = basename(new URL(url).pathname);
  const path = resolve(outDir, `${id}${extname(name)}`);
  const response = await fetch(url, { signal });
  if (!response.ok || response.body === null) throw new AppError("STORAGE_UNAVAILABLE", `${url} answered ${response.status}`);
  const { sizeBytes, sha256 } = await saveStream(Readable.fromWeb(response.body), path, { signal });
  const contentType = response.headers.get("content-type") ?? "application/octet-stream";
  return { name, role, path, url, content_type: contentType, size_bytes: sizeBytes, sha256 };
}
