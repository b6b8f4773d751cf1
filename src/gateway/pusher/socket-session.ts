import {
  clientOfChannel,
  errorFrame,
  establishedFrame,
  frame,
  isChannelAuth,
  parseClientMessage,
  PUSHER_CODES,
  refusalFrames,
  type PusherProblem,
  type PusherProtocol,
} from "../../protocol/pusher.ts";

/** The socket below a session. After `close` it takes nothing more. */
export interface Wire {
  send(frame: string | Buffer): void;
  /** A ping of the WebSocket itself, which every library answers by itself. */
  ping(): void;
  close(problem: PusherProblem): void;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
}

/** A frame about one request, made once for however many sockets. */
export interface Update {
  readonly requestId: string;
  /** Of the event, over all claims of the request. */
  readonly seq: number;
  readonly frame: Buffer;
  readonly hasPreview: boolean;
  /** `done` or `error`. */
  readonly isEnd: boolean;
}

export interface SessionOptions {
  readonly app: { readonly key: string; readonly secret: string };
  readonly socketId: string;
  readonly protocol: PusherProtocol;
  readonly wire: Wire;
  /** Null: from now on the session is given the client's updates. */
  readonly onSubscribe: (client: string, session: SocketSession) => PusherProblem | null;
  readonly onUnsubscribe: (client: string, session: SocketSession) => void;
  /** The connection is gone; `clients` are those whose key it has shown. */
  readonly onEnded: (clients: ReadonlySet<string>, session: SocketSession) => void;
  /** So many updates were superseded before they could be sent. */
  readonly onDropped?: (count: number) => void;
}

/** A peer that was silent for so long is asked whether it is there; silent for as long again, it is gone. */
export const ACTIVITY_TIMEOUT_S = 30;
/** Above this, what a newer event supersedes waits. */
export const BUSY_BYTES: number = 64 * 1024;
/** A peer that lets so much pile up is closed; it reconnects and is told the present state. */
export const HOPELESS_BYTES: number = 4 * 1024 * 1024;
/** A peer whose signatures are wrong so often is closed. */
export const MOST_REFUSALS = 10;
/** Requests whose end is remembered, so that nothing follows it. */
const MOST_ENDED = 256;

interface Held {
  readonly preview: Buffer | null;
  /** Newer than the preview. */
  readonly progress: Buffer | null;
}

/**
 * One connection of the Pusher protocol, apart from its socket. A slow one gets the newest preview and progress of a request only, and
 * its end always: nobody else waits for it.
 *
 *   open -- silent 30 s --> asked (ping) -- silent 30 s --> closed 4201
 *     '<------ any message -----'
 */
export class SocketSession {
  readonly socketId: string;
  readonly #options: SessionOptions;
  readonly #clients = new Set<string>();
  /** Those whose channel it has ever subscribed to. */
  readonly #shown = new Set<string>();
  /** Per request, what waits for the socket. */
  readonly #held = new Map<string, Held>();
  readonly #ended = new Set<string>();
  #heardAt: number;
  #isAsked = false;
  #refusals = 0;

  constructor(options: SessionOptions, now: number) {
    this.#options = options;
    this.socketId = options.socketId;
    this.#heardAt = now;
    options.wire.send(establishedFrame(options.protocol, options.socketId, ACTIVITY_TIMEOUT_S));
  }

  /** The peer gave a sign of life. */
  heard(now: number): void {
    this.#heardAt = now;
    this.#isAsked = false;
  }

  receive(text: string, now: number): void {
    this.heard(now);
    const { wire } = this.#options;
    const message = parseClientMessage(text);
    switch (message?.event) {
      case undefined:
        return wire.send(errorFrame(PUSHER_CODES.badMessage));
      case "ping":
        return wire.send(frame("pusher:pong", {}));
      case "subscribe":
        return this.#subscribe(message.channel, message.auth);
      case "unsubscribe":
        return this.#unsubscribe(message.channel);
      case "client":
        return wire.send(errorFrame(PUSHER_CODES.clientEvent));
      case "pong":
      case "unknown":
    }
  }

  /**
   * Called now and then. Asks a silent peer, closes a dead one. Either answer will do: the Java, .NET and Swift libraries pass over
   * `pusher:ping`, since the library below them answers the WebSocket's own.
   */
  check(now: number): void {
    if (now - this.#heardAt < ACTIVITY_TIMEOUT_S * 1_000) return;
    if (this.#isAsked) return this.#options.wire.close(PUSHER_CODES.pongMissing);
    this.#isAsked = true;
    this.#heardAt = now;
    this.#options.wire.ping();
    this.#options.wire.send(frame("pusher:ping", {}));
  }

  /** Sends it, or holds it until the socket has taken what it was given. */
  update(update: Update): void {
    const { wire, onDropped } = this.#options;
    const { requestId, isEnd, hasPreview } = update;
    if (this.#ended.has(requestId)) return;
    const held = this.#held.get(requestId);
    if (isEnd) {
      this.#held.delete(requestId);
      this.#remember(requestId);
      if (held !== undefined) onDropped?.(framesOf(held).length);
    }
    if (wire.bufferedBytes > HOPELESS_BYTES) return wire.close(PUSHER_CODES.overCapacity);
    if (isEnd || (held === undefined && wire.bufferedBytes <= BUSY_BYTES)) return wire.send(update.frame);
    const next = hasPreview ? { preview: update.frame, progress: null } : { preview: held?.preview ?? null, progress: update.frame };
    this.#held.set(requestId, next);
    const superseded = held === undefined ? 0 : framesOf(held).length + 1 - framesOf(next).length;
    if (superseded > 0) onDropped?.(superseded);
  }

  /** The socket took what it was given: what waits goes now. */
  drained(): void {
    const { wire } = this.#options;
    for (const [id, held] of this.#held) {
      if (wire.bufferedBytes > BUSY_BYTES) return;
      this.#held.delete(id);
      for (const each of framesOf(held)) wire.send(each);
    }
  }

  /** The connection is gone. */
  ended(): void {
    for (const client of this.#clients) this.#options.onUnsubscribe(client, this);
    this.#clients.clear();
    this.#held.clear();
    this.#options.onEnded(this.#shown, this);
  }

  #subscribe(channel: string, auth: string): void {
    const { app, protocol, wire, onSubscribe } = this.#options;
    const client = clientOfChannel(channel);
    if (client === null || !isChannelAuth(app, this.socketId, channel, auth)) {
      this.#refusals += 1;
      if (this.#refusals > MOST_REFUSALS) return wire.close(PUSHER_CODES.unauthorized);
      const error = client === null ? "This channel does not exist" : "Invalid signature";
      return refusalFrames(protocol, channel, error).forEach((each) => wire.send(each));
    }
    const isNew = !this.#clients.has(client);
    const problem = isNew ? onSubscribe(client, this) : null;
    if (problem !== null) return wire.close(problem);
    this.#clients.add(client);
    this.#shown.add(client);
    wire.send(frame("pusher_internal:subscription_succeeded", {}, channel));
  }

  #unsubscribe(channel: string): void {
    const client = clientOfChannel(channel);
    if (client !== null && this.#clients.delete(client)) this.#options.onUnsubscribe(client, this);
  }

  #remember(requestId: string): void {
    this.#ended.add(requestId);
    if (this.#ended.size > MOST_ENDED) this.#ended.delete(this.#ended.values().next().value ?? "");
  }
}

/** In their order. */
function framesOf({ preview, progress }: Held): readonly Buffer[] {
  return [preview, progress].filter((each) => each !== null);
}
