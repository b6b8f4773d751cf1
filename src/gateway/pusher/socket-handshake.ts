import type { IncomingMessage } from "node:http";

/** What of a request decides whether it becomes a socket. */
export type HandshakeRequest = Pick<IncomingMessage, "method" | "url" | "httpVersion" | "headers">;

export interface SocketTarget {
  readonly appKey: string;
  /** The query's `protocol`; null without one. */
  readonly protocol: string | null;
}

/** Why a request on the socket's path stays plain HTTP; `headers` are those that its answer needs. */
export interface HandshakeProblem {
  readonly status: 400 | 426;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** `/app/<key>`, in origin or absolute form; null for any other path. */
export function socketTarget(url: string | undefined): SocketTarget | null {
  const parsed = URL.parse(url ?? "/", "ws://gateway");
  const [, appKey] = /^\/app\/([^/]+)\/?$/.exec(parsed?.pathname ?? "") ?? [];
  return parsed === null || appKey === undefined ? null : { appKey, protocol: parsed.searchParams.get("protocol") };
}

/**
 * True when the connection becomes a socket. Every other `Upgrade` (h2c of curl and Java's HttpClient, TLS/1.0, a list, another path) is an
 * offer that a server may ignore (RFC 9110 7.8): the request is answered by its route as if the header were absent.
 */
export function isSocketUpgrade(request: HandshakeRequest): boolean {
  return socketTarget(request.url) !== null && handshakeProblem(request) === null;
}

/** RFC 6455 4.2.1, and RFC 9110 7.8 for HTTP/1.0. Null for a handshake that is in order. */
export function handshakeProblem({ method, httpVersion, headers }: HandshakeRequest): HandshakeProblem | null {
  const { upgrade, connection, "sec-websocket-version": version, "sec-websocket-key": key } = headers;
  if (Number(httpVersion) < 1.1) return upgradeRequired("A WebSocket handshake needs HTTP/1.1; this request is older.");
  const isOffered = upgrade?.trim().toLowerCase() === "websocket" && /(^|,)\s*upgrade\s*(,|$)/i.test(connection ?? "");
  if (!isOffered)
    return upgradeRequired("This path takes WebSocket connections of the Pusher protocol: connect with a ws: or wss: client.");
  if (method !== "GET" || hasBody(headers)) return malformed("A WebSocket handshake is a GET request without a body.");
  if (version !== "13" && version !== "8")
    return upgradeRequired(`Sec-WebSocket-Version is ${version === undefined ? "missing" : `"${version}"`}; this server speaks 13 and 8.`);
  if (!/^[+/0-9A-Za-z]{22}==$/.test(key ?? "")) return malformed("Sec-WebSocket-Key must be 16 bytes in base64.");
  return null;
}

function hasBody({ "content-length": length, "transfer-encoding": encoding }: HandshakeRequest["headers"]): boolean {
  return encoding !== undefined || (length !== undefined && Number(length) !== 0);
}

/** 426 names what to upgrade to (RFC 9110 15.5.22) and the versions there are (RFC 6455 4.4). */
function upgradeRequired(message: string): HandshakeProblem {
  return { status: 426, message, headers: { Upgrade: "websocket", Connection: "Upgrade, close", "Sec-WebSocket-Version": "13, 8" } };
}

function malformed(message: string): HandshakeProblem {
  return { status: 400, message, headers: {} };
}
