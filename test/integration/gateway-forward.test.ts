import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, describe, mock, test } from "node:test";
import PusherServer from "pusher";
import type { JobEvent } from "../../src/protocol/event.ts";
import { openEmitter } from "../../src/state/open-emitter.ts";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import type { StatusUpdate } from "../support/pusher-client.ts";
import { paced } from "../support/pace.ts";
import { startSystem, type TestSystem } from "../support/system.ts";

const KEY = "outer-key";
const SECRET = "outer-secret";

interface Received {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: string;
  readonly update: StatusUpdate;
}

interface PusherRig extends AsyncDisposable {
  readonly env: Readonly<Record<string, string>>;
  readonly sdk: PusherServer;
  /** What was answered with 200. */
  readonly received: Received[];
  /** What was asked, whatever the answer. */
  readonly asked: Received[];
}

/** A server with the events endpoint of the Pusher HTTP API. `answer` says with which status; null: never. */
async function startPusherServer(answer: (update: StatusUpdate) => number | null): Promise<PusherRig> {
  const received: Received[] = [];
  const asked: Received[] = [];
  const take = (url: URL, body: string, response: ServerResponse): void => {
    const update = JSON.parse((JSON.parse(body) as { data: string }).data) as StatusUpdate;
    const call = { path: url.pathname, query: url.searchParams, body, update };
    asked.push(call);
    const status = answer(update);
    if (status === 200) received.push(call);
    if (status !== null) response.writeHead(status).end("{}");
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => take(new URL(request.url ?? "/", "http://x"), Buffer.concat(chunks).toString(), response));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    received,
    asked,
    sdk: new PusherServer({ appId: "app1", key: KEY, secret: SECRET, host: "127.0.0.1", port: String(port) }),
    env: {
      DRYAPI_REALTIME: `pusher://${KEY}:${SECRET}@127.0.0.1:${port}/app1`,
      DRYAPI_MODELS: "fake",
      DRYAPI_RATE_PER_MINUTE: "0",
    },
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

describe("another Pusher server", () => {
  let system: TestSystem;
  let key: string;
  before(async () => {
    system = await startSystem();
    await system.startWorker();
    key = await addClient(system);
  });
  after(() => system[Symbol.asyncDispose]());
  // A gateway that a test killed still holds its lease.
  beforeEach(() => system.client.del(system.keys.forwarder));

  const picture = (steps: number): object => ({ model: "fake", prompt: "x", width: 64, height: 64, steps, step_ms: paced(10) });
  const isDone =
    (id: string) =>
    ({ update }: Received): boolean =>
      update.request_id === id && update.status === "done";
  const leader = (): Promise<string> => system.until("a leader", async () => (await system.client.get(system.keys.forwarder)) ?? undefined);
  const done = (pusher: PusherRig, id: string): Promise<Received> =>
    system.until(
      "the end at the other server",
      () => pusher.received.find(isDone(id)),
      () => pusher.asked.slice(-5).map(({ update }) => update),
    );

  /** An event of a running job, as its worker emits it. */
  async function emit(id: string, event: Pick<JobEvent, "type" | "preview">): Promise<void> {
    const { client: redis, keys } = system;
    const token = (await redis.get(keys.lock("fake", id))) ?? "";
    const target = { id, queue: "fake", token, claim: 1, client: "tester" };
    await openEmitter({ redis, keys, ttlMs: 3_600_000 }).emit(target, { id, claim: 1, progress: 10, ...event });
  }

  test("gets all events once over two gateways, signed as its SDK signs, previews only as large as it takes them", async () => {
    let isDown = true;
    await using pusher = await startPusherServer((update) => {
      if (update.preview !== null) return 413;
      if (update.status !== "done" || !isDown) return 200;
      isDown = false;
      return 503;
    });
    await using stack = new AsyncDisposableStack();
    const started = await Promise.all([startGateway(system, pusher.env), startGateway(system, pusher.env)]);
    const [gateway] = started.map((each) => stack.use(each));
    assert.ok(gateway);
    await leader();
    const api = new ApiClient(gateway.url, key);
    using gate = system.gate();
    const id = await api.submit("txt2img", { ...picture(1), fault: gate.fault });
    await system.event((event) => event.id === id && event.stage === "denoise");
    // Of what waits for a call to end only the newest is told: the same again, until each kind has been.
    await system.until("progress", async () => {
      await emit(id, { type: "progress" });
      return pusher.received.find(({ update }) => update.status === "in_progress");
    });
    await system.until("a preview", async () => {
      await emit(id, { type: "preview", preview: "AAAA" });
      return pusher.asked.find(({ update }) => update.preview !== null);
    });
    gate.open();
    await done(pusher, id);
    const own = pusher.received.filter(({ update }) => update.request_id === id);
    assert.deepEqual([...new Set(own.map(({ update }) => update.status))], ["processing", "in_progress", "done"]);
    assert.equal(own.filter(isDone(id)).length, 1);
    assert.equal(own.at(-1)?.update.progress, "100.00");
    for (const { path, query, body } of pusher.received) {
      assert.equal(path, "/apps/app1/events");
      const { channels, name } = JSON.parse(body) as { channels: string[]; name: string };
      assert.deepEqual([channels, name], [["private-client.tester"], "request.status.updated"]);
      // The SDK signs for its own now.
      mock.timers.enable({ apis: ["Date"], now: Number(query.get("auth_timestamp")) * 1_000 });
      const signed = new URLSearchParams(pusher.sdk.createSignedQueryString({ method: "POST", path, body }));
      mock.timers.reset();
      assert.deepEqual([...query.entries()].toSorted(), [...signed.entries()].toSorted());
    }
    const { body } = await api.send("POST", "/broadcasting/auth", { socket_id: "1.2", channel_name: "private-client.tester" });
    assert.deepEqual(body, pusher.sdk.authorizeChannel("1.2", "private-client.tester"));
    assert.equal((await fetch(pusher.received.find(isDone(id))?.update.result_url ?? "")).status, 200);
  });

  test("another gateway takes over from one that ends, and tells what ended meanwhile, once", async () => {
    await using pusher = await startPusherServer(() => 200);
    const first = await startGateway(system, pusher.env);
    await leader();
    const earlier = await new ApiClient(first.url, key).submit("txt2img", picture(1));
    await done(pusher, earlier);
    assert.equal(await first.stop(), 0);
    assert.equal(await system.client.get(system.keys.forwarder), null, "given back");
    const meanwhile = await system.submit({ model: "fake" });
    await system.ended("fake", meanwhile);
    await using second = await startGateway(system, pusher.env);
    await done(pusher, meanwhile);
    const later = await new ApiClient(second.url, key).submit("txt2img", picture(1));
    await done(pusher, later);
    for (const id of [earlier, meanwhile, later]) assert.equal(pusher.received.filter(isDone(id)).length, 1, id);
  });

  test("a request whose calls hang delays no other, and a refused call is not repeated", async () => {
    let hanging = "";
    let refused = "";
    await using pusher = await startPusherServer((update) => {
      if (update.request_id === hanging) return null;
      return update.request_id === refused ? 401 : 200;
    });
    await using gateway = await startGateway(system, pusher.env);
    await leader();
    const api = new ApiClient(gateway.url, key);
    hanging = await api.submit("txt2img", picture(2));
    await system.until("a call that hangs", () => pusher.asked.find(({ update }) => update.request_id === hanging));
    refused = await api.submit("txt2img", picture(1));
    await system.until("a refused end", () => pusher.asked.find(isDone(refused)));
    const other = await api.submit("txt2img", picture(1));
    await done(pusher, other);
    assert.equal(pusher.asked.filter(isDone(refused)).length, 1);
    const refusals = gateway.lines.filter((line) => line["request"] === refused);
    assert.ok(refusals.length > 0 && refusals.every((line) => line["detail"] === "it answered 401"));
    assert.ok(!JSON.stringify(gateway.lines).includes(SECRET));
  });
});
