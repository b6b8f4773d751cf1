/** What the gateway is measured against: fastify and a BullMQ add, without keys, checks, records or limits. Prints its port. */
import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { Queue } from "bullmq";
import Fastify from "fastify";
import { connectRedis } from "../../src/state/connect-redis.ts";

const connection = connectRedis({ url: process.env["REDIS_URL"] ?? "", role: "producer" });
const queue = new Queue("bare", { connection, prefix: "{bare}" });
const app = Fastify();
app.post("/submit", async (request) => {
  const id = randomUUID();
  await queue.add("txt2img", request.body, { jobId: id, priority: 10 });
  return { data: { request_id: id } };
});
await app.listen({ host: "127.0.0.1", port: 0 });
process.stdout.write(`${(app.server.address() as AddressInfo).port}\n`);
