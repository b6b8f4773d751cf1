import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { WebSocket, WebSocketServer } from "ws";
import { ClientChannels } from "../../src/gateway/pusher/client-channels.ts";
import { isSocketUpgrade } from "../../src/gateway/pusher/socket-handshake.ts";
import { SocketServer, type SocketServerOptions } from "../../src/gateway/pusher/socket-server.ts";
import { SocketWire } from "../../src/gateway/pusher/socket-wire.ts";
import { updateOf } from "../../src/gateway/pusher/update-payload.ts";
import { EVENT_VERSION, type JobEvent } from "../../src/protocol/event.ts";
import { keysFor } from "../../src/protocol/keys.ts";
import { channelAuth, channelOf, errorFrame, PUSHER_CODES } from "../../src/protocol/pusher.ts";
import { openEventHub } from "../../src/state/open-event-hub.ts";
import { openPusher } from "../support/pusher-client.ts";
import { startRedisRig, until, within, type RedisRig } from "../support/redis-rig.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

const APP = { key: "dryapi", secret: "secret" };
const CLIENT = "tester";
const CHANNEL = channelOf(CLIENT);
const keys = keysFor("test");
/** Of a handshake that is in order. */
const SIGNS = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
/** A pong of the WebSocket; the protocol's own follows it. */
const PONG_BYTES = 6;

interface Frame {
  readonly event: string;
  readonly data: string;
}

interface Peer {
  readonly socket: WebSocket;
  readonly frames: Frame[];
  /** The close code. */
  readonly closed: Promise<number>;
  /** Once it was told. */
  socketId?: string;
}

interface Rig extends AsyncDisposable {
  readonly url: string;
  readonly server: SocketServer;
}

/** The socket server on an HTTP server and a Redis of its own, with its clock in the test's hand. */
describe("the socket server", () => {
  let redis: RedisRig;
  before(async () => {
    redis = await startRedisRig();
  });
  after(() => redis[Symbol.asyncDispose]());

  async function start(options: Partial<SocketServerOptions> & { readonly maxSocketsPerClient?: number } = {}): Promise<Rig> {
    const { maxSocketsPerClient = 100, ...serverOptions } = options;
    const channels = new ClientChannels({
      hub: openEventHub({ subscriber: await redis.connect("subscriber"), keys }),
      updates: { ofEvent: (event) => updateOf(event, null), present: async () => [] },
      maxSocketsPerClient,
      onSent: () => undefined,
    });
    const server = new SocketServer({
      appKey: APP.key,
      appSecret: async () => APP.secret,
      maxSockets: 100,
      maxStrangersPerNetwork: 100,
      subscribeWithinMs: 30_000,
      trustProxy: false,
      onSubscribe: (client, session) => channels.join(client, session),
      onUnsubscribe: (client, session) => channels.leave(client, session),
      onEnded: (clients, session) => channels.ended(clients, session),
      ...serverOptions,
    });
    const http = createServer({ shouldUpgradeCallback: isSocketUpgrade }, (_request, response) => response.end());
    http.on("upgrade", (request, socket, head) => server.upgrade(request, socket, head));
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    return {
      server,
      url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
      [Symbol.asyncDispose]: async () => {
        server.close();
        await new Promise((resolve) => http.close(resolve));
      },
    };
  }

  function open(rig: Rig, path: string = "/app/dryapi?protocol=7", headers: Readonly<Record<string, string>> = {}): Peer {
    const socket = new WebSocket(`${rig.url.replace("http", "ws")}${path}`, { headers });
    const frames: Frame[] = [];
    const { promise: closed, resolve } = Promise.withResolvers<number>();
    socket.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString()) as Frame));
    socket.on("error", () => undefined);
    socket.once("close", resolve);
    return { socket, frames, closed };
  }

  const framed = (peer: Peer, event: string): Promise<Frame> =>
    until(`${event} at a peer`, () => peer.frames.find((frame) => frame.event === event) ?? null);

  /** Asks for a client's channel, rightly signed. */
  async function subscribe(peer: Peer, client: string = CLIENT): Promise<void> {
    peer.socketId ??= (JSON.parse((await framed(peer, "pusher:connection_established")).data) as { socket_id: string }).socket_id;
    const channel = channelOf(client);
    const data = { channel, auth: channelAuth(APP, peer.socketId, channel) };
    peer.socket.send(JSON.stringify({ event: "pusher:subscribe", data }));
  }

  async function subscribed(rig: Rig, client: string = CLIENT): Promise<Peer> {
    const peer = open(rig);
    await subscribe(peer, client);
    await framed(peer, "pusher_internal:subscription_succeeded");
    return peer;
  }

  test("no request for an upgrade ends the process", async () => {
    await using rig = await start();
    const { port } = new URL(rig.url);
    const head = "Host: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n";
    const paths = ["//", "/\\", "http://[", "/app/", "/app/%", "/app/../..", "//x:99999/app/dryapi", "*"];
    for (const [index, path] of paths.entries()) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => undefined);
      socket.write(`GET ${path} HTTP/1.1\r\n${head}\r\n`);
      // Every other one hangs up in the middle of the answer.
      if (index % 2 === 0) socket.resetAndDestroy();
      else {
        socket.resume();
        await within(`the end of ${path}`, once(socket, "close"));
      }
    }
    // What no route answers here is answered by ws.
    const socket = connect(Number(port), "127.0.0.1");
    socket.write(`GET /app/dryapi?protocol=7 HTTP/1.1\r\n${head}${SIGNS}Sec-WebSocket-Protocol: \r\n\r\n`);
    const [answer] = (await within("an answer", once(socket, "data"))) as [Buffer];
    assert.match(answer.toString(), /^HTTP\/1\.1 400 /);
    socket.destroy();
    await subscribed(rig);
  });

  test("a client's sockets over its quota are closed for good, those over the gateway's may try again", async () => {
    await using rig = await start({ maxSockets: 3, maxSocketsPerClient: 2 });
    const kept = [await subscribed(rig), await subscribed(rig)];
    const third = open(rig);
    await subscribe(third);
    assert.equal(await within("the close", third.closed), 4004);
    await until("room for another", () => rig.server.size === 2);
    const other = await subscribed(rig, "other");
    assert.equal(await within("a refusal", open(rig).closed), 4100);
    for (const { socket } of [...kept, other]) assert.equal(socket.readyState, WebSocket.OPEN);
    kept[0]?.socket.terminate();
    await until("room for another", () => rig.server.size === 2);
    await subscribed(rig);
  });

  test("a socket that left its channel stays its client's, and counts for its quota", async () => {
    let now = 0;
    await using rig = await start({ maxSocketsPerClient: 1, subscribeWithinMs: 30_000, now: () => now });
    const first = await subscribed(rig);
    first.socket.send(JSON.stringify({ event: "pusher:unsubscribe", data: { channel: CHANNEL } }));
    first.socket.send(JSON.stringify({ event: "pusher:ping", data: {} }));
    await framed(first, "pusher:pong");
    const second = open(rig);
    await subscribe(second);
    assert.equal(await within("the close of one too many", second.closed), 4004);
    now = 31_000;
    rig.server.check();
    first.frames.length = 0;
    await subscribe(first);
    await framed(first, "pusher_internal:subscription_succeeded");
    first.socket.terminate();
    await until("its end", () => rig.server.size === 0);
    await subscribed(rig);
  });

  test("who has subscribed to nothing after its time is asked to come back, who has stays", async () => {
    let now = 0;
    const dismissed: string[] = [];
    await using rig = await start({ now: () => now, onDismissed: (reason) => dismissed.push(reason) });
    const [idle, refused, known] = [open(rig), open(rig), await subscribed(rig)];
    await framed(idle, "pusher:connection_established");
    await framed(refused, "pusher:connection_established");
    refused.socket.send(JSON.stringify({ event: "pusher:subscribe", data: { channel: CHANNEL, auth: "dryapi:wrong" } }));
    await framed(refused, "pusher:subscription_error");
    now = 29_999;
    rig.server.check();
    assert.equal(rig.server.size, 3);
    const late = open(rig);
    await framed(late, "pusher:connection_established");
    now = 30_000;
    rig.server.check();
    assert.equal(rig.server.size, 2);
    assert.deepEqual(await within("the closes", Promise.all([idle.closed, refused.closed])), [4202, 4202]);
    await subscribe(late);
    await framed(late, "pusher_internal:subscription_succeeded");
    now = 90_000;
    rig.server.check();
    assert.equal(rig.server.size, 2);
    assert.equal(known.socket.readyState, WebSocket.OPEN);
    assert.deepEqual(dismissed, ["late", "late"]);
  });

  test("pusher-js that has nothing to subscribe to yet comes back by itself", async () => {
    let now = 0;
    await using rig = await start({ now: () => now });
    const client = openPusher({ url: rig.url, key: "none" });
    try {
      await until("a connection", () => client.connection.state === "connected");
      const first = client.connection.socket_id;
      now = 30_000;
      rig.server.check();
      await until("another connection", () => client.connection.state === "connected" && client.connection.socket_id !== first);
    } finally {
      client.disconnect();
    }
  });

  test("a full gateway, and a full address, let their oldest stranger go for the next one", async () => {
    for (const limits of [{ maxSockets: 3 }, { maxStrangersPerNetwork: 2 }]) {
      await using rig = await start(limits);
      const known = await subscribed(rig);
      const idle = [open(rig)];
      await framed(idle[0] as Peer, "pusher:connection_established");
      idle.push(open(rig));
      await framed(idle[1] as Peer, "pusher:connection_established");
      const client = await subscribed(rig);
      assert.equal(await within("the close of the oldest", (idle[0] as Peer).closed), 4100);
      assert.equal(rig.server.size, 3);
      for (const peer of [known, idle[1], client]) assert.equal(peer?.socket.readyState, WebSocket.OPEN);
    }
  });

  test("behind a proxy the limit is that of each address that the proxy saw", async () => {
    await using rig = await start({ trustProxy: true, maxStrangersPerNetwork: 1 });
    const from = async (forwarded: string): Promise<Peer> => {
      const peer = open(rig, undefined, { "X-Forwarded-For": forwarded });
      await framed(peer, "pusher:connection_established");
      return peer;
    };
    const one = await from("192.0.2.1");
    await from("192.0.2.2");
    await from("2001:db8:1:2::1");
    const six = await from("2001:db8:1:3::1");
    assert.equal(rig.server.size, 4);
    await from("198.51.100.1, 192.0.2.1");
    assert.equal(await within("the close of the same address", one.closed), 4100);
    await from("2001:db8:1:3:ffff::1");
    assert.equal(await within("the close of the same network", six.closed), 4100);
    assert.equal(rig.server.size, 4);
  });

  test("sockets that were sent away and do not go are cut off once they are many", async () => {
    await using rig = await start({ maxStrangersPerNetwork: 1 });
    const { port } = new URL(rig.url);
    const sockets = Array.from({ length: 600 }, () => connect(Number(port), "127.0.0.1"));
    let gone = 0;
    for (const socket of sockets) {
      socket.on("error", () => undefined);
      socket.once("close", () => (gone += 1));
      // It answers no close.
      socket.write(`GET /app/dryapi?protocol=7 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n${SIGNS}\r\n`);
      socket.resume();
    }
    await until("all but one gone", () => gone === 599);
    assert.equal(rig.server.size, 1);
    for (const socket of sockets) socket.destroy();
  });

  test("texts of every length of frame arrive whole, in their order, among frames of the WebSocket itself", async () => {
    const texts = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000, 3].map((length) => "ä".repeat(length));
    const { promise, resolve } = Promise.withResolvers<WebSocket>();
    const echo = new WebSocketServer({ noServer: true, perMessageDeflate: false });
    const http = createServer();
    http.on("upgrade", (request, socket, head) =>
      echo.handleUpgrade(request, socket, head, (ws) => {
        const wire = new SocketWire(ws, socket, () => undefined);
        for (const text of texts) {
          wire.send(text);
          ws.ping();
          wire.send(Buffer.from(text));
        }
        wire.close(PUSHER_CODES.reconnect);
        wire.send("nothing follows the close");
        resolve(ws);
      }),
    );
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    const socket = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`);
    const received: string[] = [];
    let pings = 0;
    socket.on("message", (data: Buffer, isBinary) => received.push(isBinary ? "binary" : data.toString()));
    socket.on("ping", () => (pings += 1));
    await promise;
    const [code] = (await within("the close", once(socket, "close"))) as [number];
    assert.deepEqual([code, pings], [4200, texts.length]);
    assert.deepEqual(received, [...texts.flatMap((text) => [text, text]), errorFrame(PUSHER_CODES.reconnect)]);
    await new Promise((done) => http.close(done));
  });

  test("a secret that cannot be read now sends clients away for a while", async () => {
    await using rig = await start({ appSecret: () => Promise.reject(new Error("Redis is away")) });
    assert.equal(await within("the close", open(rig).closed), 4100);
    await until("nobody left", () => rig.server.size === 0);
  });

  test("messages that come before the secret is known are obeyed in their order", async () => {
    const { promise: secret, resolve } = Promise.withResolvers<string>();
    await using rig = await start({ appSecret: () => secret });
    const peer = open(rig);
    await within("the connection", once(peer.socket, "open"));
    peer.socket.send(JSON.stringify({ event: "client-x", channel: "c", data: {} }));
    peer.socket.send(JSON.stringify({ event: "pusher:ping", data: {} }));
    const pong = within("a pong of the wire", once(peer.socket, "pong"));
    peer.socket.ping();
    await pong;
    assert.deepEqual(peer.frames, []);
    resolve(APP.secret);
    await framed(peer, "pusher:pong");
    assert.deepEqual(
      peer.frames.map(({ event }) => event),
      ["pusher:connection_established", "pusher:error", "pusher:pong"],
    );
  });

  test("a dead peer is found and closed; pusher-js comes back when its network does", async () => {
    let now = 0;
    let isDead = false;
    const bytes = { passed: 0, lost: 0 };
    await using rig = await start({ now: () => now, subscribeWithinMs: Infinity });
    await using proxy = await startTcpProxy(rig.url, (chunk) => {
      bytes[isDead ? "lost" : "passed"] += chunk.length;
      return isDead ? { do: "hold" } : { do: "pass", chunk };
    });
    const alive = await subscribed(rig);
    /** All are asked; the one that is alive answers, and its answer has come. */
    const check = async (at: number): Promise<void> => {
      now = at;
      alive.frames.length = 0;
      rig.server.check();
      await framed(alive, "pusher:ping");
      for (const event of ["pusher:pong", "pusher:ping"]) alive.socket.send(JSON.stringify({ event, data: {} }));
      await framed(alive, "pusher:pong");
    };
    const client = openPusher({ url: proxy.endpoint, key: "none" });
    try {
      await until("a connection", () => client.connection.state === "connected");
      const first = client.connection.socket_id;
      const { passed } = bytes;
      await check(31_000);
      await until("both answers of pusher-js", () => bytes.passed > passed + PONG_BYTES);
      // They are before this at the server, too.
      const { promise: answered, resolve } = Promise.withResolvers<void>();
      client.connection.bind("message", ({ event }: Frame) => event === "pusher:pong" && resolve());
      client.send_event("pusher:ping", {});
      await within("a pong for pusher-js", answered);
      isDead = true;
      await check(62_000);
      await until("both answers to be lost", () => bytes.lost > PONG_BYTES);
      assert.equal(rig.server.size, 2);
      isDead = false;
      await check(93_000);
      await until("a new connection", () => client.connection.state === "connected" && client.connection.socket_id !== first);
      await until("the end of the dead one", () => rig.server.size === 2);
      assert.equal(alive.socket.readyState, WebSocket.OPEN);
    } finally {
      client.disconnect();
    }
  });

  test("a peer that passes over pusher:ping, as the Java, .NET and Swift libraries do, is alive by the pongs of its WebSocket", async () => {
    let now = 0;
    await using rig = await start({ now: () => now });
    const peer = await subscribed(rig);
    for (now = 31_000; now < 300_000; now += 31_000) {
      peer.frames.length = 0;
      rig.server.check();
      await framed(peer, "pusher:ping");
      // Its own ping comes after the pong that its library sent.
      const pong = within("a pong", once(peer.socket, "pong"));
      peer.socket.ping();
      await pong;
    }
    assert.equal(peer.socket.readyState, WebSocket.OPEN);
  });

  test("a slow socket gets the newest preview and its end, and delays nobody", async () => {
    let dropped = 0;
    let seq = 0;
    await using rig = await start({ onDropped: (count) => (dropped += count) });
    const [fast, slow] = [await subscribed(rig), await subscribed(rig)];
    slow.socket.pause();
    const publisher = await redis.connect("producer");
    const base: Pick<JobEvent, "v" | "id" | "claim" | "at"> = { v: EVENT_VERSION, id: "a", claim: 1, at: 1 };
    const publish = (event: Omit<JobEvent, keyof typeof base>): Promise<unknown> =>
      publisher.publish(keys.events("tester"), JSON.stringify({ ...base, ...event }));
    const preview = "A".repeat(20_000);
    // Until the buffers of the kernel are full, however large they are. The fast one reads each before the next is sent.
    for (const isFull = (): boolean => dropped >= 10; !isFull();) {
      seq += 1;
      const read = once(fast.socket, "message");
      await publish({ seq, type: "preview", progress: seq / 1_000, preview });
      await within(`preview ${seq} at the fast one`, read);
    }
    assert.equal(updates(fast).length, seq, "the fast one was told all");
    // Its newest preview goes out once it reads again, and its end although it did not.
    await publish({ seq: seq + 1, type: "done", progress: 100 });
    await until("the end at the fast one", () => updates(fast).at(-1)?.status === "done");
    assert.equal(updates(slow).length, 0);
    slow.socket.resume();
    await until("the end at the slow one", () => updates(slow).at(-1)?.status === "done");
    const told = updates(slow).map(({ progress }) => Number(progress));
    assert.ok(told.length < seq, `${told.length} of ${seq} told`);
    assert.deepEqual(
      told,
      told.toSorted((a, b) => a - b),
    );
    assert.equal(rig.server.size, 2);
  });

  test("an end asks all to reconnect, and nobody is taken in any more", async () => {
    await using rig = await start();
    const peer = await subscribed(rig);
    rig.server.close();
    const late = open(rig);
    assert.deepEqual(await within("the closes", Promise.all([peer.closed, late.closed])), [4200, 4200]);
  });
});

function updates({ frames }: Peer): readonly { readonly status: string; readonly progress: string }[] {
  return frames.flatMap(({ event, data }) =>
    event === "request.status.updated" ? [JSON.parse(data) as { status: string; progress: string }] : [],
  );
}
