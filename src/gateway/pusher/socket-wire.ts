import type { Duplex } from "node:stream";
import type { WebSocket } from "ws";
import { errorFrame, type PusherProblem } from "../../protocol/pusher.ts";
import type { Wire } from "./socket-session.ts";

/** A close that the peer does not answer is not waited for. */
const CLOSE_GRACE_MS = 2_000;
/** What waits for the end of the event loop's turn goes earlier once it is so much. */
const FLUSH_BYTES = 16 * 1024;

/** Frames of texts that go to many sockets: made once. */
const framed = new WeakMap<Buffer, Buffer>();
const corked = new Set<SocketWire>();

/**
 * Writes text frames below `ws`, straight to its connection: one write for all that a socket gets in a turn of the event loop. With a thousand
 * sockets two thirds of a gateway's time were spent in one system call per frame and socket. Frames of `ws` itself (pongs, closes)
 * keep their place, since it writes whole frames, too: without compression none waits within it.
 */
export class SocketWire implements Wire {
  readonly #ws: WebSocket;
  readonly #connection: Duplex;
  #isCorked = false;

  constructor(ws: WebSocket, connection: Duplex, onDrained: () => void) {
    this.#ws = ws;
    this.#connection = connection;
    connection.on("drain", onDrained);
  }

  get bufferedBytes(): number {
    return this.#connection.writableLength;
  }

  send(text: string | Buffer): void {
    if (this.#ws.readyState !== this.#ws.OPEN) return;
    if (!this.#isCorked) this.#cork();
    this.#connection.write(frameOf(text));
    if (this.#connection.writableLength >= FLUSH_BYTES) this.flush();
  }

  flush(): void {
    if (!this.#isCorked) return;
    this.#isCorked = false;
    this.#connection.uncork();
  }

  ping(): void {
    if (this.#ws.readyState === this.#ws.OPEN) this.#ws.ping();
  }

  close(problem: PusherProblem): void {
    closeSocket(this.#ws, problem);
  }

  #cork(): void {
    this.#isCorked = true;
    this.#connection.cork();
    if (corked.size === 0) process.nextTick(flushAll);
    corked.add(this);
  }
}

function flushAll(): void {
  const wires = [...corked];
  corked.clear();
  for (const wire of wires) wire.flush();
}

/** Says why, closes, and does not wait for a peer that is not there. */
export function closeSocket(ws: WebSocket, problem: PusherProblem): void {
  if (ws.readyState !== ws.OPEN) return;
  // Clients of protocol 5 and pysher (6) go by this event, newer ones by the close.
  ws.send(errorFrame(problem), () => undefined);
  ws.close(problem.code, problem.message);
  const timer = setTimeout(() => ws.terminate(), CLOSE_GRACE_MS);
  ws.once("close", () => clearTimeout(timer));
}

function frameOf(text: string | Buffer): Buffer {
  if (typeof text === "string") return textFrame(Buffer.from(text));
  const known = framed.get(text);
  if (known !== undefined) return known;
  const made = textFrame(text);
  framed.set(text, made);
  return made;
}

const FINAL_TEXT = 0x81;
const LENGTH_IN_2_BYTES = 126;
const LENGTH_IN_8_BYTES = 127;

/** RFC 6455 5.2: one final, unmasked text frame, as a server sends it. */
export function textFrame(text: Buffer): Buffer {
  const head = Buffer.alloc(text.length < LENGTH_IN_2_BYTES ? 2 : text.length < 65_536 ? 4 : 10);
  head[0] = FINAL_TEXT;
  if (head.length === 2) head[1] = text.length;
  else if (head.length === 4) {
    head[1] = LENGTH_IN_2_BYTES;
    head.writeUInt16BE(text.length, 2);
  } else {
    head[1] = LENGTH_IN_8_BYTES;
    head.writeBigUInt64BE(BigInt(text.length), 2);
  }
  return Buffer.concat([head, text]);
}
