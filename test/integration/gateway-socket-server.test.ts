import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { WebSocket } from "ws";
import { ClientChannels } from "../../src/gateway/pusher/client-channels.ts";
import { SocketServer, type SocketServerOptions } from "../../src/gateway/pusher/socket-server.ts";
import { updateOf } from "../../src/gateway/pusher/update-payload.ts";
import { EVENT_VERSION, type JobEvent } from "../../src/protocol/event.ts";
import { keysFor } from "../../src/protocol/keys.ts";
import { channelAuth, channelOf } from "../../src/protocol/pusher.ts";
import { openEventHub } from "../../src/state/open-event-hub.ts";
import { openPusher } from "../support/pusher-client.ts";
import { startRedisRig, until, within, type RedisRig } from "../support/redis-rig.ts";
import { startTcpProxy } from "../support/tcp-proxy.ts";

const APP = { key: "dryapi", secret: "secret" };
const CHANNEL = channelOf("tester");
const keys = keysFor("test");

interface Frame {
  readonly event: string;
  readonly data: string;
}

interface Peer {
  readonly socket: WebSocket;
  readonly frames: Frame[];
  /** The close code. */
  readonly closed: Promise<number>;
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
      onSubscribe: (client, session) => channels.join(client, session),
      onUnsubscribe: (client, session) => channels.leave(client, session),
      ...serverOptions,
    });
    const http = createServer((_request, response) => response.end());
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

  function open(rig: Rig, path: string = "/app/dryapi?protocol=7"): Peer {
    const socket = new WebSocket(`${rig.url.replace("http", "ws")}${path}`);
    const frames: Frame[] = [];
    const { promise: closed, resolve } = Promise.withResolvers<number>();
    socket.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString()) as Frame));
    socket.on("error", () => undefined);
    socket.once("close", resolve);
    return { socket, frames, closed };
  }

  const framed = (peer: Peer, event: string): Promise<Frame> =>
    until(`${event} at a peer`, () => peer.frames.find((frame) => frame.event === event) ?? null);

  /** Asks for the client's channel, rightly signed. */
  async function subscribe(peer: Peer): Promise<void> {
    const { socket_id: socketId } = JSON.parse((await framed(peer, "pusher:connection_established")).data) as { socket_id: string };
    const data = { channel: CHANNEL, auth: channelAuth(APP, socketId, CHANNEL) };
    peer.socket.send(JSON.stringify({ event: "pusher:subscribe", data }));
  }

  async function subscribed(rig: Rig): Promise<Peer> {
    const peer = open(rig);
    await subscribe(peer);
    await framed(peer, "pusher_internal:subscription_succeeded");
    return peer;
  }

  test("no request for an upgrade ends the process", async () => {
    await using rig = await start();
    const { port } = new URL(rig.url);
    const head = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
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
    for (const extra of ["", "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 99\r\n"]) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.write(`GET /app/dryapi?protocol=7 HTTP/1.1\r\n${head}${extra}\r\n`);
      const [answer] = (await within("an answer", once(socket, "data"))) as [Buffer];
      assert.match(answer.toString(), /^HTTP\/1\.1 4\d\d /);
      socket.destroy();
    }
    await subscribed(rig);
  });

  test("a client's sockets over its quota are closed for good, those over the gateway's may try again", async () => {
    await using rig = await start({ maxSockets: 3, maxSocketsPerClient: 2 });
    const kept = [await subscribed(rig), await subscribed(rig)];
    const third = open(rig);
    await subscribe(third);
    assert.equal(await within("the close", third.closed), 4004);
    await until("room for another", () => rig.server.size === 2);
    const last = open(rig);
    await framed(last, "pusher:connection_established");
    assert.equal(await within("a refusal", open(rig).closed), 4100);
    for (const { socket } of [...kept, last]) assert.equal(socket.readyState, WebSocket.OPEN);
    kept[0]?.socket.terminate();
    await until("room for another", () => rig.server.size === 2);
    await subscribe(last);
    await framed(last, "pusher_internal:subscription_succeeded");
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
    const chunks = { passed: 0, lost: 0 };
    await using rig = await start({ now: () => now });
    await using proxy = await startTcpProxy(rig.url, (chunk) => {
      chunks[isDead ? "lost" : "passed"] += 1;
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
      const { passed } = chunks;
      await check(31_000);
      await until("the answer of pusher-js", () => chunks.passed > passed);
      isDead = true;
      await check(62_000);
      await until("an answer that is lost", () => chunks.lost > 0);
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
