import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { Queue } from "bullmq";
import { JOB_VERSION, type JobData } from "../../src/protocol/job.ts";
import { REQUEST_VERSION } from "../../src/protocol/request.ts";
import { connectRedis } from "../../src/state/connect-redis.ts";
import { openWebhooks } from "../../src/state/open-webhooks.ts";
import { startCourier } from "../../test/support/courier-process.ts";
import { startReceiver, type Receiver } from "../../test/support/https-receiver.ts";
import { startRawReceiver, type RawReceiver } from "../../test/support/raw-receiver.ts";
import { startSystem, type TestSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { percentile, row, type Row } from "./row.ts";

const DELIVERIES = 2_000;
const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** Deliveries of the client whose latency is measured, and the time between two. */
const TURNS = 200;
const TURN_MS = 20;
/** Receivers of the other client that never answer, each at an origin of its own. */
const HANGING = 250;

/**
 * The courier's part: ended jobs whose webhooks wait, delivered over HTTPS to one receiver that answers at once; and how long a client waits
 * for a delivery while another's receivers hang.
 */
export async function webhookRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const bare = await bareDeliveries(system);
  const ours = await ourDeliveries(system);
  return [
    row({
      name: "webhook deliveries a second to one receiver (bare: BullMQ Worker and undici, 16 at a time)",
      unit: "/s",
      ours,
      bare,
      goal: { text: "ratio >= 0.5", met: ({ ratio }) => ratio >= 0.5 },
    }),
    await floodRow(),
  ];
}

/** From the end of a job to the arrival of its webhook: p99 beside a flood, over p99 without (same courier, same run). */
async function floodRow(): Promise<Row> {
  await using system = await startSystem({}, BUILT_CLI);
  await using receiver = await startReceiver();
  await using stack = new AsyncDisposableStack();
  const hanging: RawReceiver[] = [];
  for (let index = 0; index < HANGING; index += 1) hanging.push(stack.use(await startRawReceiver({ answer: () => undefined })));
  const webhooks = openWebhooks({ redis: system.client, keys: system.keys, retentionMs: 3_600_000 });
  const env = { NODE_EXTRA_CA_CERTS: receiver.caFile, DRYAPI_ALLOW_HTTP_WEBHOOKS: "1" };
  await using _courier = await startCourier(system, env, BUILT_CLI);
  // At fixed times, however long each takes: one that waits must not keep the next from being measured.
  const latencies = async (): Promise<number> => {
    const endedAt = new Map<string, number>();
    const turns: Promise<void>[] = [];
    for (let turn = 0; turn < TURNS; turn += 1) {
      const job = endedJob(system, webhooks, { url: `${receiver.url}/b`, client: "b" });
      turns.push(job.then((id) => void endedAt.set(id, Date.now())));
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
    }
    await Promise.all(turns);
    const arrivedAt = new Map<string, number>();
    for (let seen = 0; arrivedAt.size < TURNS; await new Promise((resolve) => setTimeout(resolve, 20))) {
      for (const { body, at } of receiver.received.slice(seen)) arrivedAt.set(jobOf(body), at);
      seen = receiver.received.length;
      for (const id of arrivedAt.keys()) if (!endedAt.has(id)) arrivedAt.delete(id);
    }
    return percentile(
      [...endedAt].map(([id, at]) => Math.max(1, (arrivedAt.get(id) ?? NaN) - at)),
      99,
    );
  };
  // The first ones warm it up.
  await latencies();
  const quiet = await latencies();
  for (const { url } of hanging) await endedJob(system, webhooks, { url, client: "a" });
  while (hanging.filter(({ requests }) => requests.length > 0).length < HANGING / 4)
    await new Promise((resolve) => setTimeout(resolve, 20));
  const flooded = await latencies();
  return row({
    name: `webhook p99 of a client beside ${HANGING} hanging receivers of another (bare: without them)`,
    unit: "ms",
    ours: flooded,
    bare: quiet,
    goal: { text: "ratio <= 2", met: ({ ratio }) => ratio <= 2 },
  });
}

async function ourDeliveries(system: TestSystem): Promise<number> {
  await using receiver = await startReceiver();
  const webhooks = openWebhooks({ redis: system.client, keys: system.keys, retentionMs: 3_600_000 });
  await inLanes(DELIVERIES, async () => void (await endedJob(system, webhooks, { url: `${receiver.url}/hook`, client: "bench" })));
  await using _courier = await startCourier(system, { NODE_EXTRA_CA_CERTS: receiver.caFile }, BUILT_CLI);
  return await rateOf(receiver);
}

const jobOf = (body: string): string => (JSON.parse(body) as { readonly data: { readonly job_request_id: string } }).data.job_request_id;

/** Submitted and failed, as gateway and worker do it. Returns the id. */
async function endedJob(
  system: TestSystem,
  webhooks: ReturnType<typeof openWebhooks>,
  { url, client }: { readonly url: string; readonly client: string },
): Promise<string> {
  const id = randomUUID();
  const target = await webhooks.freezeTarget({ client, requestId: id, url, secret: SECRET });
  const createdAt = Date.now();
  const shared = { id, task: "txt2img", model: "m", client, params: {}, inputs: [], timeoutMs: 60_000 } as const;
  const hook = { webhookUrl: url, webhookSecretRef: target?.secretRef ?? null };
  await system.requests.create({
    ...shared,
    ...hook,
    v: REQUEST_VERSION,
    queue: "m",
    priority: 10,
    createdAt,
    startedAt: null,
    cancelledAt: null,
  });
  const data: JobData = { ...shared, v: JOB_VERSION, submittedAt: createdAt };
  await system.queues.add(data, { priority: 10, webhook: true });
  const claim = await system.queues.claim("m");
  if (claim === null) throw new Error("bench: a job that was added could not be claimed");
  await system.queues.fail(claim, { code: "INTERNAL", message: "x" });
  return claim.id;
}

async function bareDeliveries(system: TestSystem): Promise<number> {
  await using receiver = await startReceiver();
  const connection = connectRedis({ url: system.redis.url, role: "worker" });
  const queue = new Queue("bare", { connection, prefix: "{bare}" });
  // As long as ours.
  const body = JSON.stringify({ event: "job.failed", delivery_id: randomUUID(), data: { filler: "x".repeat(320) } });
  await inLanes(DELIVERIES, async () => void (await queue.add("hook", { body })));
  const child = spawn(process.execPath, [join(import.meta.dirname, "bare-webhooks.ts")], {
    env: { ...system.env, HOOK_URL: `${receiver.url}/hook`, NODE_EXTRA_CA_CERTS: receiver.caFile },
    stdio: ["ignore", "inherit", "inherit"],
  });
  try {
    return await rateOf(receiver);
  } finally {
    child.kill("SIGKILL");
    await once(child, "exit");
    await queue.close();
    connection.disconnect();
  }
}

/** From the first to the last arrival: starting a process is not measured. */
async function rateOf({ received }: Receiver): Promise<number> {
  while (received.length < DELIVERIES) await new Promise((resolve) => setTimeout(resolve, 20));
  const [first, last] = [received[0]?.at ?? NaN, received[DELIVERIES - 1]?.at ?? NaN];
  return DELIVERIES / ((last - first) / 1_000);
}

async function inLanes(count: number, work: () => Promise<void>): Promise<void> {
  let left = count;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await work();
    }
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}
