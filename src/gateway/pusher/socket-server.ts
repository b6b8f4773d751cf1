import { randomInt } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { errorFrame, MAX_CLIENT_MESSAGE, PUSHER_CODES, PUSHER_PROTOCOL, type PusherProblem } from "../../protocol/pusher.ts";
import { steadyNow } from "../../lib/steady-clock.ts";
import { SocketSession, type SessionOptions, type Wire } from "./socket-session.ts";

export interface SocketServerOptions extends Pick<SessionOptions, "onSubscribe" | "onUnsubscribe" | "onDropped"> {
  readonly appKey: string;
  /** @throws AppError REDIS_UNAVAILABLE */
  readonly appSecret: () => Promise<string>;
  readonly maxSockets: number;
  /** Called with the number of open sockets. */
  readonly onCount?: (count: number) => void;
  /** Default: `steadyNow`. */
  readonly now?: () => number;
}

/** A close that the peer does not answer is not waited for. */
const CLOSE_GRACE_MS = 2_000;
/** Of a peer that speaks before the secret is known. */
const MOST_EARLY = 100;

/** Takes sockets in and hands their messages to sessions. */
export class SocketServer {
  readonly #options: SocketServerOptions;
  readonly #now: () => number;
  readonly #server = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_CLIENT_MESSAGE,
    perMessageDeflate: false,
    clientTracking: false,
  });
  /** Null until the session has begun. */
  readonly #open = new Map<WebSocket, SocketSession | null>();
  #isClosing = false;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#now = options.now ?? steadyNow;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Listener of an HTTP server's `upgrade`. Whatever a peer sends, it never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Without a listener an error of one socket would end the process.
    socket.on("error", () => socket.destroy());
    const url = URL.parse(request.url ?? "/", "ws://gateway");
    const [, key] = /^\/app\/([^/]+)\/?$/.exec(url?.pathname ?? "") ?? [];
    if (url === null || key === undefined) {
      socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    this.#server.handleUpgrade(request, socket, head, (ws) => {
      ws.on("error", () => undefined);
      const problem = this.#refusal(key, url.searchParams.get("protocol"));
      if (problem === null) this.#accept(ws).catch(() => closeSocket(ws, PUSHER_CODES.overCapacity));
      else closeSocket(ws, problem);
    });
  }

  /** Called now and then: asks silent peers, closes dead ones. */
  check(): void {
    const now = this.#now();
    for (const session of this.#open.values()) session?.check(now);
  }

  /** Nobody is taken in any more, and all are asked to reconnect: to another gateway, behind a load balancer. */
  close(): void {
    this.#isClosing = true;
    for (const ws of this.#open.keys()) closeSocket(ws, PUSHER_CODES.reconnect);
  }

  #refusal(key: string, protocol: string | null): PusherProblem | null {
    if (key !== this.#options.appKey) return PUSHER_CODES.unknownApp;
    if (protocol === null) return PUSHER_CODES.noProtocol;
    if (!/^\d+$/.test(protocol)) return PUSHER_CODES.badVersion;
    if (Number(protocol) !== PUSHER_PROTOCOL) return PUSHER_CODES.protocolVersion;
    if (this.#isClosing) return PUSHER_CODES.reconnect;
    return this.#open.size >= this.#options.maxSockets ? PUSHER_CODES.overCapacity : null;
  }

  async #accept(ws: WebSocket): Promise<void> {
    const { appKey, appSecret, onSubscribe, onUnsubscribe, onDropped, onCount } = this.#options;
    this.#open.set(ws, null);
    onCount?.(this.#open.size);
    ws.once("close", () => {
      this.#open.get(ws)?.ended();
      this.#open.delete(ws);
      onCount?.(this.#open.size);
    });
    const early: string[] = [];
    const keep = (data: Buffer): void => void (early.length < MOST_EARLY && early.push(data.toString()));
    ws.on("message", keep);
    const secret = await appSecret();
    if (ws.readyState !== ws.OPEN) return;
    const session: SocketSession = new SocketSession(
      {
        app: { key: appKey, secret },
        socketId: `${randomInt(2 ** 31)}.${randomInt(2 ** 31)}`,
        wire: wireOf(ws, () => session.drained()),
        onSubscribe,
        onUnsubscribe,
        ...(onDropped !== undefined && { onDropped }),
      },
      this.#now(),
    );
    this.#open.set(ws, session);
    ws.off("message", keep);
    ws.on("message", (data: Buffer) => session.receive(data.toString(), this.#now()));
    for (const sign of ["ping", "pong"]) ws.on(sign, () => session.heard(this.#now()));
    for (const text of early) session.receive(text, this.#now());
  }
}

function wireOf(ws: WebSocket, onDrained: () => void): Wire {
  const settled = (error?: Error | null): void => {
    if (error === undefined || error === null) onDrained();
  };
  return {
    send: (frame) => {
      if (ws.readyState === ws.OPEN) ws.send(frame, { binary: false }, settled);
    },
    close: (problem) => closeSocket(ws, problem),
    get bufferedBytes() {
      return ws.bufferedAmount;
    },
  };
}

/** Says why, closes, and does not wait for a peer that is not there. */
function closeSocket(ws: WebSocket, problem: PusherProblem): void {
  if (ws.readyState !== ws.OPEN) return;
  ws.send(errorFrame(problem), () => undefined);
  ws.close(problem.code, problem.message);
  const timer = setTimeout(() => ws.terminate(), CLOSE_GRACE_MS);
  ws.once("close", () => clearTimeout(timer));
}
