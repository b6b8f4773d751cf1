import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { WebSocket } from "ws";
import { EVENT_VERSION, type JobEvent } from "../../src/protocol/event.ts";
import { channelAuth, channelOf } from "../../src/protocol/pusher.ts";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { addClient, ApiClient, startGateway, type GatewayProcess } from "../../test/support/gateway.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { percentile, row, type Row } from "./row.ts";

const CLIENT = "tester";
const MANY = 1_000;
const FEW = 200;
const EVENTS = 100;
/** Base64 of a preview of 10 kB. */
const PREVIEW = "A".repeat(13_600);

/** The sockets' part: events to many sockets, time from a worker's event to a client. */
export async function socketRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  await using gateway = await startGateway(system, { DRYAPI_RATE_PER_MINUTE: "0", DRYAPI_MODELS: "fake" }, BUILT_CLI);
  const key = await addClient(system);
  // The secret is made when it is first needed.
  await new ApiClient(gateway.url, key).send("POST", "/broadcasting/auth", { socket_id: "1.2", channel_name: channelOf(CLIENT) });
  const secret = (await system.client.get(system.keys.secret("app-secret"))) ?? "";
  const ours = (): Promise<WebSocket> => openOurs(gateway, secret);
  await using bare = await startBare(system);
  // The first round compiles code.
  for (const open of [ours, bare.open]) await fanOut(system, { open, sockets: 50, preview: null });
  const fanOuts: Row[] = [];
  for (const { sockets, preview, what } of [
    { sockets: FEW, preview: null, what: "progress events" },
    { sockets: MANY, preview: null, what: "progress events" },
    { sockets: FEW, preview: PREVIEW, what: "previews of 10 kB" },
  ]) {
    fanOuts.push(
      row({
        name: `frames a second, ${what} to ${sockets} sockets (bare: ws, each message to each socket)`,
        unit: "/s",
        ours: await fanOut(system, { open: ours, sockets, preview }),
        bare: await fanOut(system, { open: bare.open, sockets, preview }),
        ...(sockets === MANY && { goal: { text: ">= 0.85 x bare", met: ({ ratio }) => ratio >= 0.85 } }),
      }),
    );
  }
  const { socket, direct } = await eventLatency(system, gateway, { key, open: ours });
  return [
    ...fanOuts,
    row({
      name: "worker's event to a socket's client, p50 (bare: to a Redis subscriber)",
      unit: "ms",
      ours: percentile(socket, 50),
      bare: percentile(direct, 50),
      goal: { text: "<= 10 ms", met: (r) => r.ours <= 10 },
    }),
    row({ name: "worker's event to a socket's client, p99", unit: "ms", ours: percentile(socket, 99), bare: percentile(direct, 99) }),
  ];
}

/** A socket that is subscribed to the client's channel. */
async function openOurs(gateway: GatewayProcess, secret: string): Promise<WebSocket> {
  const socket = new WebSocket(`${gateway.url.replace("http", "ws")}/app/dryapi?protocol=7`);
  const channel = channelOf(CLIENT);
  const { promise, resolve } = Promise.withResolvers<void>();
  const onMessage = (raw: Buffer): void => {
    const { event, data } = JSON.parse(raw.toString()) as { event: string; data: string };
    if (event === "pusher:connection_established") {
      const { socket_id: socketId } = JSON.parse(data) as { socket_id: string };
      const auth = channelAuth({ key: "dryapi", secret }, socketId, channel);
      socket.send(JSON.stringify({ event: "pusher:subscribe", data: { channel, auth } }));
    } else if (event === "pusher_internal:subscription_succeeded") {
      socket.off("message", onMessage);
      resolve();
    }
  };
  socket.on("message", onMessage);
  await promise;
  return socket;
}

async function startBare(system: TestSystem): Promise<AsyncDisposable & { readonly open: () => Promise<WebSocket> }> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "bare-fan-out.ts")], {
    env: { ...system.env, CHANNEL: system.keys.events(CLIENT) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  return {
    open: async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${chunk.toString().trim()}`);
      await once(socket, "open");
      return socket;
    },
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await once(child, "exit");
    },
  };
}

/** Frames a second that arrive, from the first event's publishing to the end at the last socket. */
async function fanOut(
  system: TestSystem,
  { open, sockets: count, preview }: { readonly open: () => Promise<WebSocket>; readonly sockets: number; readonly preview: string | null },
): Promise<number> {
  const sockets = await Promise.all(Array.from({ length: count }, open));
  const id = crypto.randomUUID();
  let received = 0;
  let ended = 0;
  const { promise: all, resolve } = Promise.withResolvers<void>();
  for (const socket of sockets) {
    socket.on("message", (raw: Buffer) => {
      if (!raw.includes(id)) return;
      received += 1;
      // Whatever the words around it: the end has no preview and the only progress of 100.
      if (raw.length < 1_000 && raw.includes("done")) ended += 1;
      if (ended === count) resolve();
    });
  }
  const publish = (event: Pick<JobEvent, "seq" | "type" | "progress" | "preview">): Promise<number> =>
    system.client.publish(system.keys.events(CLIENT), JSON.stringify({ v: EVENT_VERSION, id, claim: 1, at: Date.now(), ...event }));
  const startedAt = performance.now();
  for (let seq = 1; seq <= EVENTS; seq += 1) {
    const shown = preview === null ? {} : { preview };
    await publish({ seq, type: preview === null ? "progress" : "preview", progress: (99 * seq) / EVENTS, ...shown });
  }
  await publish({ seq: EVENTS + 1, type: "done", progress: 100 });
  await all;
  const seconds = (performance.now() - startedAt) / 1_000;
  for (const socket of sockets) socket.terminate();
  return received / seconds;
}

interface Latencies {
  /** Milliseconds. */
  readonly socket: readonly number[];
  readonly direct: readonly number[];
}

/** From the moment that the worker dates an event, which is when the runner's message arrives, to its arrival here; on one machine's clock. */
async function eventLatency(
  system: TestSystem,
  gateway: GatewayProcess,
  { key, open }: { readonly key: string; readonly open: () => Promise<WebSocket> },
): Promise<Latencies> {
  const worker = await system.startWorker({ DRYAPI_MODELS: "fake" });
  const atSocket = new Map<string, number>();
  const socket = await open();
  socket.on("message", (raw: Buffer) => {
    const { event, data } = JSON.parse(raw.toString()) as { event: string; data: string };
    if (event !== "request.status.updated") return;
    const { progress, preview } = JSON.parse(data) as { progress: string; preview: string | null };
    if (preview === null && !atSocket.has(progress)) atSocket.set(progress, Date.now());
  });
  const direct: number[] = [];
  const subscriber = connectRedis({ url: system.redis.url, role: "subscriber" });
  await subscriber.subscribe(system.keys.events(CLIENT));
  subscriber.on("message", (_channel: string, text: string) => {
    const event = JSON.parse(text) as JobEvent;
    if (event.type === "progress") direct.push(Math.max(0, Date.now() - event.at));
  });
  const id = await new ApiClient(gateway.url, key).submit("txt2img", {
    model: "fake",
    prompt: "x",
    width: 64,
    height: 64,
    steps: 90,
    step_ms: 110,
  });
  await system.ended("fake", id);
  socket.terminate();
  subscriber.disconnect();
  await worker.stop();
  const arrivals = system.events.flatMap((event) => {
    const at = event.id === id && event.type === "progress" ? atSocket.get(event.progress.toFixed(2)) : undefined;
    return at === undefined ? [] : [Math.max(0, at - event.at)];
  });
  return { socket: arrivals, direct };
}
