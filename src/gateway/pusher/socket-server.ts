import { randomInt } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { steadyNow } from "../../lib/steady-clock.ts";
import { MAX_CLIENT_MESSAGE, protocolOf, PUSHER_CODES, type PusherProblem, type PusherProtocol } from "../../protocol/pusher.ts";
import { peerNetwork } from "./peer-network.ts";
import { socketTarget, type SocketTarget } from "./socket-handshake.ts";
import { SocketSession, type SessionOptions } from "./socket-session.ts";
import { closeSocket, SocketWire } from "./socket-wire.ts";
import { Strangers } from "./strangers.ts";

export interface SocketServerOptions extends Pick<SessionOptions, "onSubscribe" | "onUnsubscribe" | "onEnded" | "onDropped"> {
  readonly appKey: string;
  /** @throws AppError REDIS_UNAVAILABLE */
  readonly appSecret: () => Promise<string>;
  readonly maxSockets: number;
  /** Sockets of one address (IPv6: /64) that have not subscribed yet. */
  readonly maxStrangersPerNetwork: number;
  /** A socket that has not subscribed within this is closed. */
  readonly subscribeWithinMs: number;
  /** A proxy writes `X-Forwarded-For`. */
  readonly trustProxy: boolean;
  /** Called with the number of open sockets. */
  readonly onCount?: (count: number) => void;
  /** A socket was closed for a limit. */
  readonly onDismissed?: (reason: "full" | "late" | "displaced") => void;
  /** Default: `steadyNow`. */
  readonly now?: () => number;
}

/** Of a peer that speaks before the secret is known. */
const MOST_EARLY = 100;
/** Sockets that were sent away and have not gone yet; more are cut off without waiting for their answer. */
const MOST_LEAVING = 500;

/**
 * Takes sockets in and hands their messages to sessions. One that has shown no key is a stranger, bounded in number and time:
 *
 *   open -- subscribes --> known: until it ends (its client's quota counts it)
 *     |-- `subscribeWithinMs` --> closed 4202
 *     '-- oldest of its network or of a full gateway, and another comes --> closed 4100
 */
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
  readonly #strangers: Strangers<WebSocket>;
  readonly #leaving = new Set<WebSocket>();
  #isClosing = false;

  constructor(options: SocketServerOptions) {
    this.#options = options;
    this.#now = options.now ?? steadyNow;
    this.#strangers = new Strangers(options.maxStrangersPerNetwork);
  }

  get size(): number {
    return this.#open.size;
  }

  /** Listener of an HTTP server's `upgrade`, for what `isSocketUpgrade` lets through. Whatever a peer sends, it never throws. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    // Without a listener an error of one socket would end the process.
    socket.on("error", () => socket.destroy());
    const target = socketTarget(request.url);
    if (target === null) {
      socket.destroy();
      return;
    }
    const network = peerNetwork(request, this.#options.trustProxy);
    this.#server.handleUpgrade(request, socket, head, (ws) => {
      ws.on("error", () => undefined);
      const admitted = this.#admit(target);
      if (typeof admitted !== "number") this.#dismiss(ws, admitted);
      else this.#accept(ws, { connection: socket, protocol: admitted, network }).catch(() => closeSocket(ws, PUSHER_CODES.overCapacity));
    });
  }

  /** Called now and then: asks silent peers, closes dead ones and those that did not subscribe in time. */
  check(): void {
    const now = this.#now();
    for (const ws of this.#strangers.takeUntil(now - this.#options.subscribeWithinMs)) this.#evict(ws, "late");
    for (const session of this.#open.values()) session?.check(now);
  }

  /** Nobody is taken in any more, and all are asked to reconnect: to another gateway, behind a load balancer. */
  close(): void {
    this.#isClosing = true;
    for (const ws of this.#open.keys()) closeSocket(ws, PUSHER_CODES.reconnect);
  }

  /** The version to speak, or why not to. */
  #admit({ appKey, protocol }: SocketTarget): PusherProtocol | PusherProblem {
    if (appKey !== this.#options.appKey) return PUSHER_CODES.unknownApp;
    const version = protocolOf(protocol);
    if (typeof version !== "number") return version;
    if (this.#isClosing) return PUSHER_CODES.reconnect;
    return this.#makeRoom() ? version : PUSHER_CODES.overCapacity;
  }

  /** A full gateway lets its oldest stranger go. False when all are known. */
  #makeRoom(): boolean {
    if (this.#open.size < this.#options.maxSockets) return true;
    const oldest = this.#strangers.takeOldest();
    if (oldest === null) this.#options.onDismissed?.("full");
    else this.#evict(oldest, "displaced");
    return oldest !== null;
  }

  #evict(ws: WebSocket, reason: "late" | "displaced"): void {
    this.#forget(ws);
    this.#options.onDismissed?.(reason);
    this.#dismiss(ws, reason === "late" ? PUSHER_CODES.unsubscribed : PUSHER_CODES.overCapacity);
  }

  /** It no longer counts as open. Those that do not answer the close do not pile up either. */
  #dismiss(ws: WebSocket, problem: PusherProblem): void {
    this.#leaving.add(ws);
    ws.once("close", () => this.#leaving.delete(ws));
    closeSocket(ws, problem);
    if (this.#leaving.size > MOST_LEAVING) this.#leaving.values().next().value?.terminate();
  }

  #forget(ws: WebSocket): void {
    const session = this.#open.get(ws);
    if (!this.#open.delete(ws)) return;
    this.#strangers.delete(ws);
    session?.ended();
    this.#options.onCount?.(this.#open.size);
  }

  async #accept(
    ws: WebSocket,
    peer: { readonly connection: Duplex; readonly protocol: PusherProtocol; readonly network: string },
  ): Promise<void> {
    const { appKey, appSecret, onSubscribe, onUnsubscribe, onEnded, onDropped, onCount } = this.#options;
    this.#open.set(ws, null);
    const displaced = this.#strangers.add(ws, { network: peer.network, since: this.#now() });
    if (displaced !== null) this.#evict(displaced, "displaced");
    onCount?.(this.#open.size);
    ws.once("close", () => this.#forget(ws));
    const early: string[] = [];
    const keep = (data: Buffer): void => void (early.length < MOST_EARLY && early.push(data.toString()));
    ws.on("message", keep);
    const secret = await appSecret();
    if (!this.#open.has(ws) || ws.readyState !== ws.OPEN) return;
    const session: SocketSession = new SocketSession(
      {
        app: { key: appKey, secret },
        socketId: `${randomInt(2 ** 31)}.${randomInt(2 ** 31)}`,
        protocol: peer.protocol,
        wire: new SocketWire(ws, peer.connection, () => session.drained()),
        onSubscribe: (client, subscriber) => {
          const problem = onSubscribe(client, subscriber);
          if (problem === null) this.#strangers.delete(ws);
          return problem;
        },
        onUnsubscribe,
        onEnded,
        ...(onDropped !== undefined && { onDropped }),
      },
      this.#now(),
    );
    this.#open.set(ws, session);
    ws.off("message", keep);
    // One that was sent away may have spoken before it heard of it.
    ws.on("message", (data: Buffer) => void (this.#open.has(ws) && session.receive(data.toString(), this.#now())));
    for (const sign of ["ping", "pong"]) ws.on(sign, () => session.heard(this.#now()));
    for (const text of early) session.receive(text, this.#now());
  }
}
