import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";

/** What goes wrong with requests for content; `null`: nothing. */
export interface Mischief {
  /** The connection breaks after so many bytes of each answer. */
  readonly cutAfter?: number;
  /** So many requests are answered with this first. */
  readonly statuses?: { readonly status: number; readonly times: number; readonly retryAfter?: string };
  /** Each answer's first byte is another. */
  readonly corrupt?: boolean;
  /** Of all answers with more than a byte, those after so many are never given. */
  readonly holdAfter?: number;
  /** Ranges are ignored. */
  readonly noRanges?: boolean;
  /** The answer never goes on after its first bytes. */
  readonly hang?: boolean;
  /** Bytes are said to be so many more than there are. */
  readonly longer?: number;
}

export interface HubServer extends AsyncDisposable {
  /** HF_ENDPOINT. */
  readonly url: string;
  /** Origin of the server that content is redirected to. */
  readonly contentUrl: string;
  readonly commit: string;
  mischief: Mischief;
  /** Requests so far, those for content with their range. */
  readonly requests: {
    readonly host: "hub" | "content";
    readonly path: string;
    readonly range: string | null;
    readonly authorization: string | null;
  }[];
  /** Resolves once an answer is held. */
  held(): Promise<void>;
  /** Bytes of content that were sent. */
  sentBytes: number;
}

export interface HubOptions {
  readonly repo: string;
  readonly files: Readonly<Record<string, Uint8Array>>;
  /** The repository is gated: only this token may read it. */
  readonly token?: string;
}

/**
 * A server that behaves as the Hugging Face Hub does, as far as a download meets it: `GET /api/models/<repo>/revision/<rev>`, the tree with
 * digests of large files, and `/resolve/`, which redirects large files to another host, with size and digest in headers.
 */
export async function startHub({ repo, files, token }: HubOptions): Promise<HubServer> {
  const commit = createHash("sha1").update(repo).digest("hex");
  const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
  const isLarge = (bytes: Uint8Array): boolean => bytes.length > 1_000;
  let failures = 0;
  let answers = 0;
  let holding = Promise.withResolvers<void>();
  const note = (host: "hub" | "content", { url = "", headers }: IncomingMessage): void =>
    void state.requests.push({ host, path: url, range: headers.range ?? null, authorization: headers.authorization ?? null });

  const content = createServer((request, response) => {
    note("content", request);
    const name = decodeURIComponent((request.url ?? "").slice(1).split("?")[0] ?? "");
    send(request, response, name);
  });
  const hub = createServer((request, response) => {
    note("hub", request);
    const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "");
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`)
      return json(response, 401, { error: "Access to model is restricted" });
    if (path === `/api/models/${repo}/revision/main` || path === `/api/models/${repo}/revision/${commit}` || path === `/api/models/${repo}`)
      return json(response, 200, {
        _id: "1",
        id: repo,
        modelId: repo,
        sha: commit,
        private: false,
        downloads: 0,
        likes: 0,
        gated: false,
        lastModified: "2026-01-01T00:00:00.000Z",
      });
    if (path === `/api/models/${repo}/tree/${commit}`) return json(response, 200, Object.entries(files).map(entry));
    const found = new RegExp(`^/${repo}/resolve/${commit}/(.+)$`).exec(path)?.[1];
    const bytes = found === undefined ? undefined : files[found];
    if (found === undefined || bytes === undefined) return json(response, 404, { error: "Entry not found" });
    if (!isLarge(bytes)) return send(request, response, found);
    response.writeHead(302, {
      location: `${state.contentUrl}/${encodeURIComponent(found)}?signature=1`,
      "x-linked-size": bytes.length,
      "x-linked-etag": `"${sha256(bytes)}"`,
    });
    response.end();
  });

  function entry([path, bytes]: [string, Uint8Array]): object {
    const oid = createHash("sha1").update(bytes).digest("hex");
    const common = { type: "file", path, size: bytes.length, oid };
    return isLarge(bytes) ? { ...common, lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 135 } } : common;
  }

  function send(request: IncomingMessage, response: ServerResponse, name: string): void {
    const { mischief } = state;
    const bytes = files[name];
    if (bytes === undefined) return json(response, 404, { error: "gone" });
    if (mischief.statuses !== undefined && failures < mischief.statuses.times) {
      failures += 1;
      response.writeHead(
        mischief.statuses.status,
        mischief.statuses.retryAfter === undefined ? {} : { "retry-after": mischief.statuses.retryAfter },
      );
      return void response.end();
    }
    const range = mischief.noRanges === true ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "");
    if (range !== null && bytes.length === 0) {
      response.writeHead(416, { "content-range": "bytes */0" });
      return void response.end();
    }
    const [start, end] = range === null ? [0, bytes.length] : [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
    const body = Buffer.from(bytes.subarray(start, end));
    if (mischief.corrupt === true && body.length > 1) body[0] = (body[0] ?? 0) ^ 0xff;
    const size = bytes.length + (mischief.longer ?? 0);
    const etag = `"${sha256(bytes).slice(0, 32)}"`;
    response.writeHead(range === null ? 200 : 206, {
      etag,
      "content-length": body.length + (range === null ? (mischief.longer ?? 0) : 0),
      ...(range !== null && { "content-range": `bytes ${start}-${end - 1}/${size}` }),
    });
    const cut = mischief.cutAfter !== undefined && body.length > mischief.cutAfter ? mischief.cutAfter : null;
    const part = body.subarray(0, cut ?? body.length);
    if (body.length > 1 && mischief.holdAfter !== undefined && (answers += 1) > mischief.holdAfter) return holding.resolve();
    state.sentBytes += part.length;
    if (mischief.hang === true && body.length > 1) return void response.write(body.subarray(0, 1));
    if (cut === null) return void response.end(part);
    response.write(part, () => setImmediate(() => response.destroy()));
  }

  const state: HubServer & { sentBytes: number } = {
    url: await listen(hub),
    contentUrl: await listen(content),
    commit,
    held: async () => {
      await holding.promise;
      holding = Promise.withResolvers();
      answers = 0;
    },
    mischief: {},
    requests: [],
    sentBytes: 0,
    [Symbol.asyncDispose]: async () => {
      for (const server of [hub, content]) {
        server.closeAllConnections();
        server.close();
        await once(server, "close");
      }
    },
  };
  return state;
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { "content-type": "application/json", "x-error-message": status === 200 ? "" : JSON.stringify(value) });
  response.end(JSON.stringify(value));
}

async function listen(server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
