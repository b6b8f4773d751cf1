/** What the sockets are measured against: each message of a Redis channel to each WebSocket, without a protocol. Prints its port. */
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import { connectRedis } from "../../src/state/connect-redis.ts";

const subscriber = connectRedis({ url: process.env["REDIS_URL"] ?? "", role: "subscriber" });
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
subscriber.on("message", (_channel: string, text: string) => {
  for (const socket of server.clients) socket.send(text);
});
await subscriber.subscribe(process.env["CHANNEL"] ?? "");
process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
