import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import PusherServer from "pusher";
import { WebSocket } from "ws";
import { startBalancer } from "../support/balancer.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../support/gateway.ts";
import { openPusher, subscribeUpdates, type PusherClient, type StatusUpdate } from "../support/pusher-client.ts";
import { paced, type Gate } from "../support/pace.ts";
import { startSystem, type TestSystem, type WorkerProcess } from "../support/system.ts";

const EVENT = "request.status.updated";
const ENV = { DRYAPI_MODELS: "fake,tiny-flux-schnell", DRYAPI_RATE_PER_MINUTE: "0" };

/** Real daemon, real gateway, real pusher-js. */
describe("sockets", () => {
  let system: TestSystem;
  let gateway: GatewayProcess;
  let worker: WorkerProcess;
  let key: string;
  let api: ApiClient;
  const clients: PusherClient[] = [];

  before(async () => {
    system = await startSystem();
    worker = await system.startWorker();
    gateway = await startGateway(system, ENV);
    key = await addClient(system);
    api = new ApiClient(gateway.url, key);
  });
  after(async () => {
    for (const client of clients) client.disconnect();
    await gateway[Symbol.asyncDispose]();
    await system[Symbol.asyncDispose]();
  });

  function connect(url: string = gateway.url, withKey: string = key): PusherClient {
    const client = openPusher({ url, key: withKey });
    clients.push(client);
    return client;
  }

  const picture = (steps: number): object => ({ model: "fake", prompt: "x", width: 64, height: 64, steps, step_ms: paced(10) });
  /** Held in its second step until it is cancelled or the gate opens. */
  const heldPicture = (gate: Gate): object => ({ ...picture(3), fault: { ...gate.fault, step: 2 } });

  /** What is added to the queue waits there. */
  async function pause(isPaused: boolean): Promise<void> {
    const meta = `${system.keys.prefix}:fake:meta`;
    if (isPaused) await system.client.hset(meta, "paused", "1");
    else await system.client.hdel(meta, "paused");
  }

  const find = (updates: readonly StatusUpdate[], id: string, status: string): Promise<StatusUpdate> =>
    system.until(
      `${status} of ${id}`,
      () => updates.find((update) => update.request_id === id && update.status === status),
      () => updates.slice(-5),
    );

  test("a job is told from its start to its result, with previews", async () => {
    const updates = await subscribeUpdates(connect());
    using gate = system.gate();
    const id = await api.submit("txt2img", heldPicture(gate));
    await system.until("a preview", () => updates.find((update) => update.request_id === id && update.preview !== null));
    gate.open();
    const done = await find(updates, id, "done");
    const own = updates.filter((update) => update.request_id === id);
    assert.equal(own[0]?.status, "processing");
    assert.equal(own.filter(({ status }) => status === "processing").length, 1);
    const previews = own.filter(({ preview }) => preview !== null);
    assert.ok(previews.length > 0);
    assert.match(previews[0]?.preview ?? "", /^data:image\/jpeg;base64,\/9j\//);
    for (const { progress } of own) assert.match(progress, /^\d{1,3}\.\d\d$/);
    assert.equal(done.progress, "100.00");
    assert.equal(done.result_url, (await api.status(id))["result_url"]);
    const file = await fetch(done.result_url ?? "");
    assert.equal(file.status, 200);
    assert.equal(file.headers.get("content-type"), "image/png");
    assert.equal(own.at(-1), done, "nothing follows the end");
  });

  test("a failure and a cancel are told with their codes", async () => {
    const updates = await subscribeUpdates(connect());
    using gate = system.gate();
    const id = await api.submit("txt2img", heldPicture(gate));
    await find(updates, id, "in_progress");
    assert.equal((await api.post(`requests/${id}/cancel`)).status, 200);
    assert.equal((await find(updates, id, "error")).error_code, "CANCELLED");
    assert.equal((await api.post(`requests/${id}/cancel`)).status, 409);
  });

  test("who subscribes late is told the present state", async () => {
    using gate = system.gate();
    const id = await api.submit("txt2img", heldPicture(gate));
    await system.event((event) => event.id === id && event.type === "preview");
    const updates = await subscribeUpdates(connect());
    const first = await find(updates, id, "in_progress");
    assert.equal(updates[0], first);
    assert.equal(first.replayed, true);
    await api.post(`requests/${id}/cancel`);
    assert.equal((await find(updates, id, "error")).replayed, undefined);
  });

  test("who subscribes just after the end is told of it", async () => {
    const id = await api.submit("txt2img", picture(1));
    await system.ended("fake", id);
    const updates = await subscribeUpdates(connect());
    const done = await find(updates, id, "done");
    assert.equal(done.replayed, true);
    assert.equal((await fetch(done.result_url ?? "")).status, 200);
    assert.equal(updates.filter(({ request_id }) => request_id === id).length, 1);
  });

  test("a running request is told to who subscribes late however many wait behind it", async () => {
    using gate = system.gate();
    const running = await api.submit("txt2img", heldPicture(gate));
    await system.event((event) => event.id === running && event.type === "progress");
    const waiting = await Promise.all(Array.from({ length: 60 }, () => api.submit("txt2img", picture(1))));
    const updates = await subscribeUpdates(connect());
    await find(updates, running, "in_progress");
    for (const id of [...waiting, running]) assert.equal((await api.post(`requests/${id}/cancel`)).status, 200);
    await find(updates, running, "error");
  });

  test("the cancel of a request that waits is told: no worker would", async () => {
    const updates = await subscribeUpdates(connect());
    await pause(true);
    const id = await api.submit("txt2img", picture(1));
    assert.equal((await api.post(`requests/${id}/cancel`)).status, 200);
    assert.equal((await find(updates, id, "error")).error_code, "CANCELLED");
    await pause(false);
  });

  test("an end that was told while the gateway heard nothing reaches its sockets", async () => {
    const updates = await subscribeUpdates(connect());
    await pause(true);
    const id = await api.submit("txt2img", picture(1));
    process.kill(gateway.pid, "SIGSTOP");
    try {
      await system.client.call("CLIENT", "KILL", "TYPE", "pubsub");
      await pause(false);
      await system.ended("fake", id);
    } finally {
      process.kill(gateway.pid, "SIGCONT");
    }
    await find(updates, id, "done");
  });

  test("another client's channel and a false key are refused", async () => {
    await assert.rejects(subscribeUpdates(connect(), "private-client.other"), /refused/);
    await assert.rejects(subscribeUpdates(connect(gateway.url, "tester|wrong-wrong-wrong-wrong")), /refused/);
    const answer = await api.send("POST", "/broadcasting/auth", { socket_id: "1.2", channel_name: "private-client.other" });
    assert.equal(answer.status, 403);
    assert.equal((await api.send("POST", "/broadcasting/auth", { socket_id: "1:2", channel_name: "private-client.tester" })).status, 422);
  });

  test("signatures are those of the pusher server SDK, from JSON and from a form", async () => {
    const secret = (await system.client.get(system.keys.secret("app-secret"))) ?? "";
    const sdk = new PusherServer({ appId: "1", key: "dryapi", secret, cluster: "x" });
    const fields = { socket_id: "123.456", channel_name: "private-client.tester" };
    const expected = sdk.authorizeChannel(fields.socket_id, fields.channel_name);
    for (const body of [fields, new URLSearchParams(fields)]) {
      const answer = await api.send("POST", "/broadcasting/auth", body);
      assert.deepEqual(answer.body, expected);
    }
  });

  test("connections that cannot be served are closed with the protocol's codes", async () => {
    const closeOf = async (path: string): Promise<number> => {
      const socket = new WebSocket(`${gateway.url.replace("http", "ws")}${path}`);
      const { promise, resolve, reject } = Promise.withResolvers<number>();
      socket.once("close", (code) => resolve(code));
      socket.once("error", reject);
      return promise;
    };
    assert.equal(await closeOf("/app/other?protocol=7"), 4001);
    assert.equal(await closeOf("/app/dryapi?protocol=8"), 4007);
    assert.equal(await closeOf("/app/dryapi?protocol=4"), 4007);
    assert.equal(await closeOf("/app/dryapi"), 4008);
    await assert.rejects(closeOf("/nowhere"), /404/);
  });

  test("client events are refused and a ping is answered; too long a message closes", async () => {
    const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/app/dryapi?protocol=7`);
    const frames: { readonly event: string; readonly data: unknown }[] = [];
    const { promise: closed, resolve } = Promise.withResolvers<number>();
    socket.on("message", (data: Buffer) => frames.push(JSON.parse(data.toString()) as (typeof frames)[number]));
    socket.once("close", (code) => resolve(code));
    const next = (event: string) =>
      system.until(
        event,
        () => frames.find((frame) => frame.event === event),
        () => frames,
      );
    const established = await next("pusher:connection_established");
    assert.match(String(established.data), /^\{"socket_id":"\d+\.\d+","activity_timeout":30\}$/);
    socket.send(JSON.stringify({ event: "pusher:ping", data: {} }));
    await next("pusher:pong");
    socket.send(JSON.stringify({ event: "client-hello", channel: "private-client.tester", data: {} }));
    assert.deepEqual((await next("pusher:error")).data, { code: 4301, message: "Client events are not accepted" });
    socket.send("x".repeat(20_000));
    assert.equal(await closed, 1009);
  });

  test("clients go on at another gateway when theirs ends, or is killed", async () => {
    await using balancer = await startBalancer();
    const second = await startGateway(system, ENV);
    balancer.sendTo(second.url);
    const client = connect(balancer.url);
    const updates = await subscribeUpdates(client);
    const secondSocket = client.connection.socket_id;
    const isBack = (former: string): Promise<true> =>
      system.until(
        "the reconnection",
        () => (client.connection.state === "connected" && client.connection.socket_id !== former ? true : undefined),
        () => client.connection.state,
      );
    balancer.sendTo(gateway.url);
    assert.equal(await second.stop(), 0);
    await isBack(secondSocket);
    const id = await api.submit("txt2img", picture(3));
    await find(updates, id, "done");

    const third = await startGateway(system, ENV);
    balancer.sendTo(third.url);
    const other = connect(balancer.url);
    const otherUpdates = await subscribeUpdates(other);
    balancer.sendTo(null);
    // Its job ends while it is nowhere.
    await third.kill9();
    const lost = await api.submit("txt2img", picture(1));
    await system.ended("fake", lost);
    balancer.sendTo(gateway.url);
    await find(otherUpdates, lost, "done");
  });

  test("an outage of Redis is survived: later jobs are told", async () => {
    const updates = await subscribeUpdates(connect());
    await system.restartRedis();
    await system.until("readiness", async () => ((await fetch(`${worker.admin}/readyz`)).status === 200 ? true : undefined));
    let id = "";
    await system.until("a submit", async () => {
      const answer = await api.post("txt2img", picture(3));
      id = answer.status === 200 ? String(answer.body.data["request_id"]) : "";
      return id === "" ? undefined : true;
    });
    await find(updates, id, "done");
  });

  test("a thousand sockets all hear of an end", async () => {
    const sockets: WebSocket[] = [];
    /** Per request, who heard of its end: the events may be here before the answer to the submit is. */
    const heard = new Map<string, Set<number>>();
    const { promise: allSubscribed, resolve } = Promise.withResolvers<void>();
    let subscribed = 0;
    const secret = (await system.client.get(system.keys.secret("app-secret"))) ?? "";
    const sdk = new PusherServer({ appId: "1", key: "dryapi", secret, cluster: "x" });
    for (let index = 0; index < 1_000; index += 1) {
      const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/app/dryapi?protocol=7`);
      sockets.push(socket);
      socket.on("message", (raw: Buffer) => {
        const { event, data } = JSON.parse(raw.toString()) as { event: string; data: string };
        if (event === "pusher:connection_established") {
          const { socket_id: socketId } = JSON.parse(data) as { socket_id: string };
          const channel = "private-client.tester";
          socket.send(JSON.stringify({ event: "pusher:subscribe", data: { channel, ...sdk.authorizeChannel(socketId, channel) } }));
        } else if (event === "pusher_internal:subscription_succeeded") {
          subscribed += 1;
          if (subscribed === 1_000) resolve();
        } else if (event === EVENT) {
          const update = JSON.parse(data) as StatusUpdate;
          if (update.status !== "done") return;
          heard.set(update.request_id, (heard.get(update.request_id) ?? new Set()).add(index));
        }
      });
    }
    await allSubscribed;
    const id = await api.submit("txt2img", picture(2));
    await system.until(
      "all to hear",
      () => (heard.get(id)?.size === 1_000 ? true : undefined),
      () => heard.get(id)?.size,
    );
    for (const socket of sockets) socket.terminate();
  });
});
