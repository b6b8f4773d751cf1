import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import Echo from "laravel-echo";
import { WebSocket } from "ws";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { openPusher, subscribeUpdates, type StatusUpdate } from "../support/pusher-client.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const CHANNEL = "private-client.tester";
const EVENT = "request.status.updated";
const PICTURE = { model: "fake", prompt: "x", width: 64, height: 64, steps: 2 };

interface Frame {
  readonly event: string;
  readonly channel?: string;
  readonly data: unknown;
}

/** What a hand-made client does as a library that is in neither npm nor PyPI does it, from its public source. */
interface Library {
  readonly name: string;
  readonly query: string;
  readonly subscribe: (channel: string, auth: string) => string;
  readonly ping: string;
}

const LIBRARIES: readonly Library[] = [
  {
    // PusherOptions.java, SubscribeMessage.java, WebSocketConnection.java: Gson, no data in a ping, pusher:ping is not answered.
    name: "pusher-websocket-java (Android)",
    query: "?client=java-client&protocol=5&version=2.4.4",
    subscribe: (channel, auth) => JSON.stringify({ event: "pusher:subscribe", data: { channel, auth } }),
    ping: '{"event": "pusher:ping"}',
  },
  {
    // Pusher.cs: a null channel_data for a private channel; the library below it pings by the WebSocket's own frames.
    name: "pusher-websocket-dotnet",
    query: "?protocol=5&client=pusher-dotnet-client&version=2.1.0",
    subscribe: (channel, auth) => JSON.stringify({ event: "pusher:subscribe", data: { channel, auth, channel_data: null } }),
    ping: '{"event":"pusher:ping","data":{}}',
  },
];

/** Clients of the Pusher protocol that nobody here wrote, unmodified, against a real gateway and worker. */
describe("Pusher clients", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let key: string;
  let api: ApiClient;
  before(async () => {
    system = await startSystem();
    await system.startWorker();
    gateway = await startGateway(system, { DRYAPI_MODELS: "fake", DRYAPI_RATE_PER_MINUTE: "0" });
    key = await addClient(system);
    api = new ApiClient(gateway.url, key);
  });
  after(async () => {
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  /** All of a request's updates, to its end. */
  const toEnd = (updates: readonly StatusUpdate[], id: string): Promise<readonly StatusUpdate[]> =>
    system.until(
      `the end of ${id}`,
      () => {
        const own = updates.filter(({ request_id: of }) => of === id);
        return own.some(({ status }) => status === "done" || status === "error") ? own : undefined;
      },
      () => updates.slice(-5),
    );

  function assertWhole(own: readonly StatusUpdate[]): void {
    // A job may start while the present state is read for a new subscription: then its start is told as a replay.
    const [first, ...later] = own;
    if (first?.replayed === true) assert.equal(first.status, "in_progress");
    else assert.equal(first?.status, "processing");
    const end = own.at(-1);
    assert.equal(end?.status, "done");
    assert.equal(end.progress, "100.00");
    assert.match(end.result_url ?? "", /^http:/);
    for (const { replayed } of later) assert.equal(replayed, undefined, "what happens now is no replay");
  }

  test("pysher (protocol 6) follows a request to its end", async () => {
    const script = join(import.meta.dirname, "pysher_follow.py");
    const printed = await runPythonClient("python", [script, gateway.url, key, CHANNEL]);
    assertWhole(
      printed
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as StatusUpdate),
    );
  });

  test("laravel-echo over pusher-js (protocol 7) follows a request to its end, leaves, and comes back", async () => {
    const { hostname, port } = new URL(gateway.url);
    const echo = new Echo({
      broadcaster: "reverb",
      key: "dryapi",
      Pusher: createRequire(import.meta.url)("pusher-js") as never,
      wsHost: hostname,
      wsPort: Number(port),
      forceTLS: false,
      enabledTransports: ["ws"],
      authEndpoint: `${gateway.url}/broadcasting/auth`,
      bearerToken: key,
    });
    try {
      for (const round of ["first", "second"]) {
        const updates: StatusUpdate[] = [];
        const { promise: subscribed, resolve, reject } = Promise.withResolvers<void>();
        echo
          .private("client.tester")
          .listen(`.${EVENT}`, (update: StatusUpdate) => updates.push(update))
          .error((error: unknown) => reject(new Error(`refused: ${JSON.stringify(error)}`)))
          .subscribed(() => resolve());
        await subscribed;
        const id = await api.submit("txt2img", PICTURE);
        assertWhole(await toEnd(updates, id));
        assert.ok(updates.length > 0, round);
        echo.leave("client.tester");
      }
    } finally {
      echo.disconnect();
    }
  });

  for (const library of LIBRARIES) {
    test(`a handshake of ${library.name} (protocol 5) leads to a request's end`, async () => {
      const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/app/dryapi${library.query}`);
      const frames: Frame[] = [];
      socket.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString()) as Frame));
      const next = (event: string): Promise<Frame> =>
        system.until(
          event,
          () => frames.find((frame) => frame.event === event),
          () => frames,
        );
      // Both read data as a JSON text and take the socket id from it.
      const { socket_id: socketId } = JSON.parse((await next("pusher:connection_established")).data as string) as { socket_id: string };
      const answer = await api.send("POST", "/broadcasting/auth", new URLSearchParams({ channel_name: CHANNEL, socket_id: socketId }));
      assert.equal(answer.status, 200);
      socket.send(library.subscribe(CHANNEL, answer.body["auth"] as string));
      const subscribed = await next("pusher_internal:subscription_succeeded");
      assert.deepEqual([subscribed.channel, typeof subscribed.data], [CHANNEL, "string"]);
      socket.send(library.ping);
      await next("pusher:pong");
      const pong = once(socket, "pong");
      socket.ping();
      await pong;
      const id = await api.submit("txt2img", PICTURE);
      await system.until("the end", () =>
        frames.some(({ event, data }) => event === EVENT && String(data).includes(id) && String(data).includes('"done"'))
          ? true
          : undefined,
      );
      const updates = frames.filter(({ event }) => event === EVENT).map(({ data }) => JSON.parse(data as string) as StatusUpdate);
      assertWhole(updates.filter(({ request_id: of }) => of === id));
      socket.close();
    });
  }

  test("idle strangers in every place, a client with a key still connects and follows its request; they are sent away in time", async () => {
    const places = 200;
    const env = { DRYAPI_MODELS: "fake", DRYAPI_MAX_SOCKETS: String(places), DRYAPI_SOCKET_SUBSCRIBE_MS: "1s" };
    await using small = await startGateway(system, env);
    const codes = new Map<number, number>();
    const strangers = Array.from({ length: places + 20 }, () => new WebSocket(`${small.url.replace("http", "ws")}/app/dryapi?protocol=7`));
    for (const socket of strangers) {
      socket.on("error", () => undefined);
      socket.once("close", (code) => codes.set(code, (codes.get(code) ?? 0) + 1));
    }
    await Promise.all(strangers.map((socket) => once(socket, "open")));
    const undecided = openPusher({ url: small.url, key });
    const clients = [openPusher({ url: small.url, key }), openPusher({ url: small.url, key })];
    try {
      const [one, other] = await Promise.all(clients.map((client) => subscribeUpdates(client)));
      const id = await new ApiClient(small.url, key).submit("txt2img", PICTURE);
      for (const updates of [one ?? [], other ?? []]) assertWhole(await toEnd(updates, id));
      await system.until(
        "the end of all strangers",
        () => ((codes.get(4100) ?? 0) + (codes.get(4202) ?? 0) === strangers.length ? true : undefined),
        () => [...codes],
      );
      assert.deepEqual(
        clients.map(({ connection }) => connection.state),
        ["connected", "connected"],
      );
      // It was sent away, too, came back, and subscribes only now.
      const late = await subscribeUpdates(undecided);
      const later = await new ApiClient(small.url, key).submit("txt2img", PICTURE);
      assertWhole(await toEnd(late, later));
    } finally {
      for (const client of [...clients, undecided]) client.disconnect();
      for (const socket of strangers) socket.terminate();
    }
  });
});
