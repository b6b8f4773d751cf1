import { request as requestHttp, type ClientRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import type { Socket } from "node:net";
import { asFetchFailure, FetchFailure } from "./fetch-failure.ts";
import type { KeptAgents } from "./kept-agents.ts";
import { parseRetryAfter } from "../lib/retry-after.ts";

export interface SendRequest {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  /** From the look-up of the host to the status line. */
  readonly timeoutMs: number;
  /** Of the answer, more is not read. */
  readonly maxAnswerBytes: number;
  readonly signal?: AbortSignal;
}

export interface Answer {
  readonly status: number;
  /** The first bytes of the answer's body; fewer when it came too slowly, or broke. */
  readonly body: Buffer;
  /** Where a redirect points, as written. */
  readonly location: string | null;
  /** How long the server asks to be left alone; null when it does not say so readably. */
  readonly retryAfterMs: number | null;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** How long the body of an answer is waited for once its status is known. */
const ANSWER_BODY_MS = 2_000;
/** Of an answer's head: twice what common servers accept themselves. */
const MAX_HEAD_BYTES = 65_536;
/** 1xx answers before the one that counts. */
const MAX_INTERIM = 100;

/** What a connection dies of when its server had closed it before our request came. */
const CUT: ReadonlySet<string> = new Set(["ECONNRESET", "EPIPE", "ECONNABORTED"]);

/**
 * One POST. Any final status is an answer: redirects are not followed, 1xx is passed over, and once the status is known nothing that
 * happens to the body changes it. A kept connection that turns out to be closed is replaced: its server saw nothing of the request, or
 * gets it twice, as receivers of deliveries must expect anyway.
 * @throws FetchFailure | `signal.reason`
 */
export async function sendPost(agents: KeptAgents, url: URL, post: SendRequest): Promise<Answer> {
  const endsAt = performance.now() + post.timeoutMs;
  for (;;) {
    post.signal?.throwIfAborted();
    const request = open(agents, url, post);
    try {
      return await exchange(request, { agents, post, leftMs: Math.max(1, endsAt - performance.now()) });
    } catch (thrown) {
      if (post.signal?.aborted === true) throw post.signal.reason;
      if (!request.reusedSocket || !CUT.has(codeOf(thrown))) throw asPostFailure(thrown);
    }
  }
}

function open(agents: KeptAgents, url: URL, { headers, body }: SendRequest): ClientRequest {
  const options: RequestOptions = {
    method: "POST",
    agent: agents.of(url),
    headers: { ...headers, "Content-Length": Buffer.byteLength(body) },
    maxHeaderSize: MAX_HEAD_BYTES,
    // Lines that end in LF alone, folded headers, a length beside chunks: read as RFC 9112 tells user agents to. What comes after an answer's
    // end closes the connection, so that nobody's bytes become the answer to another request.
    insecureHTTPParser: true,
  };
  return url.protocol === "https:" ? requestHttps(url, options) : requestHttp(url, options);
}

interface Exchange {
  readonly agents: KeptAgents;
  readonly post: SendRequest;
  readonly leftMs: number;
}

/** Rejects with whatever ended it before a final status came. */
function exchange(request: ClientRequest, { agents, post, leftMs }: Exchange): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  const fail = (error: unknown): void => {
    reject(error);
    request.destroy();
  };
  const late = setTimeout(() => fail(new FetchFailure("timeout", `no answer within ${post.timeoutMs / 1_000} s`)), leftMs);
  const unconnected = setTimeout(
    () => fail(new FetchFailure("timeout", `no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`)),
    CONNECT_TIMEOUT_MS,
  );
  const onAbort = (): void => fail(post.signal?.reason);
  post.signal?.addEventListener("abort", onAbort, { once: true });
  const stopWaiting = (): void => {
    clearTimeout(late);
    clearTimeout(unconnected);
    post.signal?.removeEventListener("abort", onAbort);
  };
  let answered = false;
  let interim = 0;
  request
    .on("socket", (socket) => onConnected(request, socket, () => clearTimeout(unconnected)))
    .on("information", () => {
      interim += 1;
      if (interim > MAX_INTERIM)
        fail(new FetchFailure("answer", `the receiver sent more than ${MAX_INTERIM} interim answers and no final one`));
    })
    .on("upgrade", (answer, socket) => {
      socket.destroy();
      resolve(answerOf(answer, []));
    })
    .on("response", (answer) => {
      answered = true;
      stopWaiting();
      // Where it ends is a matter of taste.
      const { "content-length": length, "transfer-encoding": coding } = answer.headers;
      if (answer.statusCode === 101 || (length !== undefined && coding !== undefined)) agents.distrust(answer.socket);
      void firstChunks(answer, post.maxAnswerBytes).then((chunks) => resolve(answerOf(answer, chunks)));
    })
    .on("error", (error) => {
      if (!answered) reject(error);
    })
    .on("close", () => {
      stopWaiting();
      if (!answered) reject(Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" }));
    })
    .end(post.body);
  return promise;
}

function onConnected(request: ClientRequest, socket: Socket, connected: () => void): void {
  if (request.reusedSocket) connected();
  else socket.once("encrypted" in socket ? "secureConnect" : "connect", connected);
}

/** Never rejects: what has come when the limit or the time is reached, the stream ends or breaks. The connection is kept only after its end. */
function firstChunks(answer: IncomingMessage, limit: number): Promise<readonly Buffer[]> {
  const { promise, resolve } = Promise.withResolvers<readonly Buffer[]>();
  const chunks: Buffer[] = [];
  let length = 0;
  const done = (): void => {
    clearTimeout(timer);
    resolve([Buffer.concat(chunks).subarray(0, limit)]);
    if (!answer.complete) answer.destroy();
  };
  const timer = setTimeout(done, ANSWER_BODY_MS);
  answer
    .on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length > limit) done();
    })
    .on("end", done)
    .on("error", done)
    .on("close", done);
  // Such an answer has no body, and need not say so.
  if (answer.statusCode === 205 && answer.headers["content-length"] === undefined && answer.headers["transfer-encoding"] === undefined)
    done();
  return promise;
}

function answerOf({ statusCode, headers }: IncomingMessage, chunks: readonly Buffer[]): Answer {
  return {
    status: statusCode ?? 0,
    body: Buffer.concat(chunks),
    location: headers.location ?? null,
    retryAfterMs: parseRetryAfter(headers["retry-after"], headers.date),
  };
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" ? thrown.code : "";
}

/** What node's client threw as a FetchFailure. */
function asPostFailure(thrown: unknown): Error {
  const code = codeOf(thrown);
  const cause = thrown;
  if (CUT.has(code)) return new FetchFailure("network", `the receiver closed the connection without an answer (${code})`, { cause });
  if (code === "HPE_HEADER_OVERFLOW")
    return new FetchFailure("answer", `the receiver's answer has more than ${MAX_HEAD_BYTES / 1_024} KiB of headers`, { cause });
  if (code.startsWith("HPE_")) return new FetchFailure("answer", `the receiver does not answer as HTTP says (${code})`, { cause });
  return asFetchFailure(thrown);
}
