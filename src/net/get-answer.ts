import { Agent as HttpAgent, request as requestHttp, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import type { LookupFunction } from "node:net";
import { createSecureContext } from "node:tls";
import { FetchFailure } from "./fetch-failure.ts";

export interface GetterOptions {
  readonly lookup: LookupFunction;
  readonly userAgent: string;
  /** Certificates (PEM) to trust instead of the system's. */
  readonly ca?: readonly string[];
}

/** GETs, each over a connection of its own: its host is looked up and judged anew. */
export interface Getter extends Disposable {
  /** The final answer, 1xx passed over, its body not yet read. @throws FetchFailure, what node's client throws, or `signal.reason` */
  get(url: URL, signal: AbortSignal): Promise<IncomingMessage>;
}

const CONNECT_TIMEOUT_MS = 5_000;
/** Of an answer's head: twice what common servers accept themselves. */
const MAX_HEAD_BYTES = 65_536;
/** 1xx answers before the one that counts. */
const MAX_INTERIM = 100;

export function openGetter({ lookup, userAgent, ca }: GetterOptions): Getter {
  const plain = new HttpAgent({ lookup });
  const secure = new HttpsAgent({ lookup, secureContext: createSecureContext(ca === undefined ? {} : { ca: [...ca] }) });
  const options: RequestOptions = {
    // No cookie, credential or referrer. The file is wanted as it is; see decode-body.ts for servers that think otherwise.
    headers: { "User-Agent": userAgent, Accept: "*/*", "Accept-Encoding": "identity" },
    maxHeaderSize: MAX_HEAD_BYTES,
    // Lines that end in LF alone, folded headers, a length beside chunks: read as RFC 9112 tells user agents to. Nothing follows on the
    // connection that could be taken for another answer.
    insecureHTTPParser: true,
  };
  return {
    get: (url, signal) =>
      answerOf(
        url.protocol === "https:" ? requestHttps(url, { ...options, agent: secure }) : requestHttp(url, { ...options, agent: plain }),
        signal,
      ),
    [Symbol.dispose]: () => {
      plain.destroy();
      secure.destroy();
    },
  };
}

function answerOf(request: ReturnType<typeof requestHttp>, signal: AbortSignal): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const fail = (error: unknown): void => {
    reject(error);
    request.destroy();
  };
  const unconnected = setTimeout(
    () => fail(new FetchFailure("timeout", `no connection within ${CONNECT_TIMEOUT_MS / 1_000} s`)),
    CONNECT_TIMEOUT_MS,
  );
  const onAbort = (): void => fail(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  let interim = 0;
  let answer: IncomingMessage | null = null;
  request
    .on("socket", (socket) => {
      socket.once("encrypted" in socket ? "secureConnect" : "connect", () => clearTimeout(unconnected));
    })
    .on("information", () => {
      interim += 1;
      if (interim > MAX_INTERIM)
        fail(new FetchFailure("answer", `the server sent more than ${MAX_INTERIM} interim answers and no final one`));
    })
    .on("upgrade", () => fail(new FetchFailure("answer", "the server answered 101, which nobody asked for")))
    .on("response", (response) => {
      answer = response;
      resolve(response);
    })
    // What the parser finds wrong in the body is told here alone: its stream would only say that it was cut. Behind the body nobody looks.
    .on("error", (error) => {
      reject(error);
      if (answer?.complete === false) answer.destroy(error);
    })
    .on("close", () => {
      clearTimeout(unconnected);
      signal.removeEventListener("abort", onAbort);
      reject(Object.assign(new Error("the connection was closed"), { code: "ECONNRESET" }));
    })
    .end();
  if (signal.aborted) onAbort();
  return promise;
}
