/**
 * `node scripts/soak.ts [--minutes 15] [--seed 1]`: two workers under steady load while processes are killed, stopped and signalled, Redis is
 * killed and one host is cut off. Afterwards every accepted job must have ended exactly once, with its files in the store and nothing else,
 * and no process may be left. Exit 1 when anything of that does not hold. The seed gives the same faults again, not the same moments.
 */
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";
import { parseFailedReason } from "../src/protocol/error.ts";
import { startCutProxy } from "../test/support/cut-proxy.ts";
import { childrenOf, gone, startSystem, type WorkerProcess } from "../test/support/system.ts";

const { values } = parseArgs({ options: { minutes: { type: "string", default: "15" }, seed: { type: "string", default: "1" } } });
const OUTSTANDING = 24;
/** Longer than a lock. */
const BEYOND_LOCK_MS = 5_000;
/** Ends that the faults themselves may bring a job: two kills of its runner, or too many lost hosts. */
const EXPECTED_FAILURES = new Set(["POISON_JOB", "STALLED", "CANCELLED"]);

let state = Number(values.seed) >>> 0 || 1;
/** xorshift32: 0 <= n < 1. */
function random(): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) / 2 ** 32;
}
const upTo = (n: number): number => Math.floor(random() * n);

interface Job {
  readonly id: string;
  readonly model: string;
  cancelled: boolean;
}

interface Host {
  readonly env: Readonly<Record<string, string>>;
  worker: WorkerProcess;
}

await using system = await startSystem({
  DRYAPI_MODELS: "fake,fake-b",
  DRYAPI_LOCK_MS: "3s",
  DRYAPI_STALLED_INTERVAL_MS: "1s",
  DRYAPI_MAX_STALLED: "20",
  DRYAPI_MAX_ATTEMPTS: "20",
});
await using proxy = await startCutProxy(system.redis.path);
const hosts = await Promise.all([host("near", {}), host("far", { REDIS_URL: `redis://${proxy.address}` })]);
const jobs: Job[] = [];
const problems: string[] = [];
const faults = new Map<string, number>();
const pids = new Set<number>();

const FAULTS: Readonly<Record<string, (target: Host) => Promise<void>>> = {
  "runner killed": async ({ worker }) => {
    const children = await childrenOf(worker.pid);
    const victim = children[upTo(children.length)];
    if (victim !== undefined) process.kill(victim, "SIGKILL");
  },
  "worker killed": async (target) => {
    await target.worker.kill9();
    target.worker = await system.startWorker(target.env);
  },
  "worker signalled": async (target) => {
    const code = await target.worker.stop();
    if (code !== 0) problems.push(`a worker ended with code ${code} on SIGTERM`);
    target.worker = await system.startWorker(target.env);
  },
  "worker stopped past its lock": async ({ worker }) => {
    worker.process.kill("SIGSTOP");
    await wait(BEYOND_LOCK_MS);
    worker.process.kill("SIGCONT");
  },
  "host cut off past its lock": async () => {
    proxy.cut();
    await wait(BEYOND_LOCK_MS);
    proxy.mend();
  },
  "redis killed": () => system.restartRedis(),
};

const until = performance.now() + Number(values.minutes) * 60_000;
await Promise.all([keepLoad(until), keepFailing(until)]);
await check();
for (const { worker } of hosts) {
  for (const pid of [worker.pid, ...(await childrenOf(worker.pid))]) pids.add(pid);
  await worker.stop();
}
for (const pid of pids) await gone(pid);

const total = [...faults.values()].reduce((sum, count) => sum + count, 0);
console.log(`${jobs.length} jobs, ${total} faults: ${[...faults].map(([name, count]) => `${name} ${count}`).join(", ")}`);
for (const problem of problems) console.log(`PROBLEM: ${problem}`);
console.log(problems.length === 0 ? "soak: nothing lost, nothing doubled, nothing left" : `soak: ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;

async function host(name: string, more: Readonly<Record<string, string>>): Promise<Host> {
  const env = { DRYAPI_WORKER_NAME: name, DRYAPI_STATE_DIR: `${system.dir}/state-${name}`, ...more };
  return { env, worker: await system.startWorker(env) };
}

/** One fault after the other. */
async function keepFailing(end: number): Promise<void> {
  const names = Object.keys(FAULTS);
  while (performance.now() < end) {
    await wait(500 + upTo(3_000));
    const name = names[upTo(names.length)] ?? "";
    const target = hosts[upTo(hosts.length)];
    if (target === undefined) return;
    faults.set(name, (faults.get(name) ?? 0) + 1);
    for (const { worker } of hosts) for (const pid of [worker.pid, ...(await childrenOf(worker.pid))]) pids.add(pid);
    await FAULTS[name]?.(target);
  }
}

/** Submits jobs while fewer than so many are under way, and cancels some. A submit that fails was not accepted. */
async function keepLoad(end: number): Promise<void> {
  const ended = new Set<string>();
  while (performance.now() < end) {
    await wait(200);
    for (const { id, type } of system.events) if (type === "done" || type === "error") ended.add(id);
    // An event that was published while Redis died reaches nobody: the queue is asked about the oldest.
    const oldest = jobs.find(({ id }) => !ended.has(id));
    if (oldest !== undefined && /^(completed|failed|gone)$/.test(await stateOf(oldest))) ended.add(oldest.id);
    if (jobs.filter(({ id }) => !ended.has(id)).length >= OUTSTANDING) continue;
    const model = random() < 0.5 ? "fake" : "fake-b";
    const params = { steps: 1 + upTo(30), step_ms: 5 + upTo(60), seed: jobs.length };
    const id = await system.submit({ model, params, timeoutMs: 3_600_000 }).catch(() => null);
    if (id === null) continue;
    const job: Job = { id, model, cancelled: false };
    jobs.push(job);
    if (random() < 0.05) void wait(upTo(3_000)).then(() => cancel(job));
  }
}

async function stateOf({ model, id }: Job): Promise<string> {
  return system.state(model, id).catch(() => "unknown");
}

async function cancel(job: Job): Promise<void> {
  // While Redis is away nothing is cancelled.
  await system.cancel(job.id).then(
    () => (job.cancelled = true),
    () => undefined,
  );
}

async function check(): Promise<void> {
  const named = new Set<string>();
  for (const job of jobs) {
    const done = system.events.filter(({ id, type }) => id === job.id && type === "done").length;
    if (done > 1) problems.push(`job ${job.id} was told done ${done} times`);
    if (job.cancelled && (await system.state(job.model, job.id)) === "gone") continue;
    const view = await system.ended(job.model, job.id).catch((thrown: unknown) => void problems.push(`job ${job.id}: ${String(thrown)}`));
    if (view === undefined) continue;
    if (view.state === "failed") {
      const { code, message } = parseFailedReason(view.failedReason ?? "");
      if (!EXPECTED_FAILURES.has(code)) problems.push(`job ${job.id} failed: ${code} ${message}`);
      continue;
    }
    const wanted = view.result?.files.map(({ name }) => name) ?? [];
    named.add(job.id);
    const found = await system.objects(`outputs/${job.id}/${view.result?.claim ?? 0}`);
    if (wanted.length === 0 || wanted.some((name) => !found.includes(name))) problems.push(`job ${job.id}: its files are not in the store`);
  }
  const objects = await system.objects("outputs");
  console.log(`${named.size} completed; ${objects.length - named.size} objects more in the store than they name, for the sweep`);
}
