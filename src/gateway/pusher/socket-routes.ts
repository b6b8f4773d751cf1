import type { FastifyInstance } from "fastify";
import { channelAuth, channelOf, SOCKET_ID } from "../../protocol/pusher.ts";
import { parseRealtime, type RealtimeTarget } from "../../protocol/pusher-api.ts";
import { openEventHub } from "../../state/open-event-hub.ts";
import { clientOf } from "../http/authenticate.ts";
import { readFields } from "../body/read-body.ts";
import { forbidden, HttpProblem, invalid, notFound } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { ClientChannels } from "./client-channels.ts";
import { Forwarder } from "./forwarder.ts";
import { openRequestUpdates } from "./request-updates.ts";
import { handshakeProblem, isSocketUpgrade, type HandshakeRequest } from "./socket-handshake.ts";
import { SocketServer } from "./socket-server.ts";

/** Dead peers are found so much later than they should be at most. */
const CHECK_EVERY_MS = 5_000;

/** `POST /broadcasting/auth`, and the sockets at `/app/<key>` or events to another Pusher server. */
export async function socketRoutes(app: FastifyInstance, context: GatewayContext): Promise<void> {
  const { config } = context;
  const elsewhere = config.realtime === null ? null : parseRealtime(config.realtime);
  const appSecret = async (): Promise<string> => elsewhere?.secret ?? (await context.secrets.get("app-secret"));

  app.post("/broadcasting/auth", { config: { auth: true } }, async (request) => {
    const { socket_id: socketId, channel_name: channel } = await readFields(request);
    if (typeof socketId !== "string" || !SOCKET_ID.test(socketId))
      throw invalid({ socket_id: ["The socket_id field must be two numbers with a dot between them."] });
    if (channel !== channelOf(clientOf(request).id)) throw forbidden();
    return { auth: channelAuth({ key: elsewhere?.key ?? config.appKey, secret: await appSecret() }, socketId, channel) };
  });

  if (elsewhere === null) installSockets(app, context, appSecret);
  else installForwarder(app, context, elsewhere);
}

/** Node's `shouldUpgradeCallback`: which requests become sockets. All others are answered by their routes. */
export function upgrades(realtime: string | null): (request: HandshakeRequest) => boolean {
  return realtime === null ? isSocketUpgrade : () => false;
}

function installSockets(app: FastifyInstance, context: GatewayContext, appSecret: () => Promise<string>): void {
  const { config, keys, metrics } = context;
  const channels = new ClientChannels({
    hub: openEventHub({ subscriber: context.connectSubscriber(), keys }),
    updates: openRequestUpdates(context),
    maxSocketsPerClient: config.maxSocketsPerClient,
    onSent: (count) => metrics.socketFrames.inc({ result: "sent" }, count),
  });
  const server = new SocketServer({
    appKey: config.appKey,
    appSecret,
    maxSockets: config.maxSockets,
    maxStrangersPerNetwork: config.maxUnsubscribedSocketsPerAddress,
    subscribeWithinMs: config.socketSubscribeMs,
    trustProxy: config.trustProxy,
    onSubscribe: (client, session) => channels.join(client, session),
    onUnsubscribe: (client, session) => channels.leave(client, session),
    onEnded: (clients, session) => channels.ended(clients, session),
    onDropped: (count) => metrics.socketFrames.inc({ result: "dropped" }, count),
    onCount: (count) => metrics.sockets.set(count),
    onDismissed: (reason) => metrics.socketsDismissed.inc({ reason }),
  });
  // A handshake that is in order never comes here.
  app.get<{ Params: { readonly appKey: string } }>("/app/:appKey", async ({ params, raw }) => {
    if (params.appKey !== config.appKey) throw notFound();
    const { status, message, headers } = handshakeProblem(raw) ?? {};
    throw new HttpProblem(status ?? 400, { message: message ?? "Bad Request." }, headers);
  });
  app.server.on("upgrade", (request, socket, head) => server.upgrade(request, socket, head));
  const timer = setInterval(() => server.check(), CHECK_EVERY_MS);
  app.addHook("preClose", async () => {
    clearInterval(timer);
    server.close();
  });
}

function installForwarder(app: FastifyInstance, context: GatewayContext, target: RealtimeTarget): void {
  const stop = new AbortController();
  const forwarding = new Forwarder(context, target, openRequestUpdates(context)).run(stop.signal);
  app.addHook("preClose", async () => {
    stop.abort();
    await forwarding;
  });
}
