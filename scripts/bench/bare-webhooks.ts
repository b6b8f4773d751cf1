/** What the courier is measured against: a BullMQ Worker that posts each job's body, unsigned, unguarded, unlogged. Runs until it is killed. */
import { readFileSync } from "node:fs";
import { Worker } from "bullmq";
import { Agent, request } from "undici";
import { connectRedis } from "../../src/state/connect-redis.ts";

/** As many as the courier makes to one receiver. */
const CONCURRENCY = 16;

const ca = readFileSync(process.env["NODE_EXTRA_CA_CERTS"] ?? "", "utf8");
const dispatcher = new Agent({ connect: { ca } });
const headers = { "content-type": "application/json" };
const post = async (body: string): Promise<void> => {
  const answer = await request(process.env["HOOK_URL"] ?? "", { method: "POST", body, headers, dispatcher });
  await answer.body.dump();
};
const connection = connectRedis({ url: process.env["REDIS_URL"] ?? "", role: "worker" });
const worker = new Worker<{ readonly body: string }>("bare", async ({ data }) => post(data.body), {
  connection,
  prefix: "{bare}",
  concurrency: CONCURRENCY,
});
await worker.waitUntilReady();
