import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { LookupFunction, Socket } from "node:net";
import { Duplex } from "node:stream";
import { createSecureContext } from "node:tls";
import { steadyNow } from "../lib/steady-clock.ts";

/**
 * How long after its host was looked up a connection may carry a further request. The address at its other end was judged when it was made
 * and cannot change, so no byte ever goes to one that was not. What this bounds is for how long we miss that a host moved elsewhere.
 */
const LOOKUP_FRESH_MS = 30_000;
/** An idle connection is closed after this, sooner when its server says so (`Keep-Alive: timeout=`). */
const IDLE_MS = 4_000;
/** Idle connections at once, to all hosts together. */
const MAX_IDLE = 256;

export interface KeptAgentsOptions {
  readonly lookup: LookupFunction;
  /** Certificates (PEM) to trust instead of the system's. */
  readonly ca?: readonly string[];
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

export interface KeptAgents extends Disposable {
  of(url: URL): HttpAgent;
  /** Has a connection closed after its request: something about it is odd. */
  distrust(socket: Socket): void;
}

/**
 * Connections that are used again while the look-up that they were made from is fresh, for the same scheme, host name and port: node's agents
 * tell them apart by these, and the certificate was checked for that name.
 */
export function openKeptAgents({ lookup, ca, now = steadyNow }: KeptAgentsOptions): KeptAgents {
  const pool = new Pool(now);
  const settings = { keepAlive: true, timeout: IDLE_MS, lookup };
  const plain = within(pool, new HttpAgent(settings));
  // One context for all: making one for each connection costs as much as the rest of the handshake.
  const secureContext = createSecureContext(ca === undefined ? {} : { ca: [...ca] });
  const secure = within(pool, new HttpsAgent({ ...settings, secureContext }));
  return {
    of: (url) => (url.protocol === "https:" ? secure : plain),
    distrust: (socket) => pool.distrust(socket),
    [Symbol.dispose]: () => {
      plain.destroy();
      secure.destroy();
    },
  };
}

/** Which connections may be kept. */
class Pool {
  readonly #now: () => number;
  readonly #madeAt = new WeakMap<Duplex, number>();
  readonly #idle = new Set<Duplex>();

  constructor(now: () => number) {
    this.#now = now;
  }

  made<T extends Duplex>(socket: T): T {
    this.#madeAt.set(socket, this.#now());
    socket.once("close", () => this.#idle.delete(socket));
    return socket;
  }

  distrust(socket: Duplex): void {
    this.#madeAt.delete(socket);
  }

  /** True where it will still be fresh when it has been idle for as long as it may. */
  keeps(socket: Duplex): boolean {
    const madeAt = this.#madeAt.get(socket);
    if (madeAt === undefined || this.#now() - madeAt + IDLE_MS > LOOKUP_FRESH_MS || this.#idle.size >= MAX_IDLE) return false;
    this.#idle.add(socket);
    return true;
  }

  used(socket: Duplex): void {
    this.#idle.delete(socket);
  }
}

/** Has an agent keep its connections in a pool. */
function within<T extends HttpAgent>(pool: Pool, agent: T): T {
  const create = agent.createConnection.bind(agent);
  const keep: (socket: Duplex) => unknown = agent.keepSocketAlive.bind(agent);
  const reuse = agent.reuseSocket.bind(agent);
  agent.createConnection = (options, callback) => {
    const socket = create(options, callback);
    return socket instanceof Duplex ? pool.made(socket) : socket;
  };
  // Node's own answers false for a server that closes too soon, else true; the types do not say so.
  agent.keepSocketAlive = (socket) => keep(socket) !== false && pool.keeps(socket);
  agent.reuseSocket = (socket, request) => {
    pool.used(socket);
    reuse(socket, request);
  };
  return agent;
}
