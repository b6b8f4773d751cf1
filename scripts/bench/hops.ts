/**
 * `node scripts/bench/hops.ts`: where the time between a submit and its `done` goes, hop by hop, as a table in Markdown. BENCH_CLI names the
 * built program of another checkout. The probes cost about a tenth: for the sum read the row of `npm run bench -- --only latency`.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import type { Mark } from "./hop-probe.ts";
import { startLatencyRig, type TimedJob } from "./latency-rig.ts";
import { percentile } from "./row.ts";

const WARM_UP = 100;
const JOBS = 300;
/** Between jobs, so that what a job leaves to do after its end is not counted to the next one. */
const PAUSE_MS = 20;

/** Each hop ends with the n-th mark of a job that passes. Work that runs beside the hop is not seen: a hop is what the job waits for. */
const HOPS: readonly { readonly what: string; readonly mark: RegExp; readonly nth?: number }[] = [
  { what: "client's request reaches the gateway", mark: /^gateway http request </ },
  { what: "gateway: parse, key, rate limit", mark: /^gateway redis .*:rate:.* </ },
  { what: "gateway: check, record of the request", mark: /^gateway redis evalsha .*:req:ID </ },
  { what: "gateway: job added; the worker's XREAD answers", mark: /^worker redis xread .* </ },
  { what: "worker: look at the queue, decide", mark: /^worker redis evalsha .*:fake:wait >/ },
  { what: "worker: claim", mark: /^worker redis evalsha .*:fake:wait </ },
  { what: "worker: admit (cancel mark, passed on, earlier outputs)", mark: /^worker fs mkdir >/ },
  { what: "worker: folder in the spool, claim.json", mark: /^worker fs writeFile </ },
  { what: "worker: start recorded, run sent", mark: /^worker ipc run >/ },
  { what: "runner: message read, first stage", mark: /^worker ipc stage </ },
  { what: "runner: the step (5 ms)", mark: /^worker ipc progress </ },
  { what: "runner: decode, encode, file, message", mark: /^worker ipc job-done </ },
  { what: "worker: outputs verified, complete.json", mark: /^worker ipc ack >/ },
  { what: "worker: outputs stored (file store, flushed)", mark: /^worker redis evalsha .*:fake:wait >/, nth: 2 },
  { what: "worker: completed in the queue", mark: /^worker redis evalsha .*:live:ID >/ },
  { what: "end published; gateway words it", mark: /^gateway socket frame >/, nth: -1 },
];

interface Timeline {
  readonly marks: readonly Mark[];
  readonly from: number;
  readonly to: number;
}

const dir = await mkdtemp(join(tmpdir(), "dryapi-hops-"));
try {
  const jobs = await measure();
  const marks: Mark[] = [];
  for (const name of await readdir(dir)) marks.push(...(JSON.parse(await readFile(join(dir, name), "utf8")) as Mark[]));
  marks.sort((a, b) => a.at - b.at);
  const ends = jobs.map((job) => hopEnds(timelineOf(job, marks)));
  process.stdout.write(`${tableOf(ends).join("\n")}\n`);
} finally {
  await rm(dir, { recursive: true, force: true });
}

async function measure(): Promise<readonly TimedJob[]> {
  await using rig = await startLatencyRig({
    NODE_OPTIONS: `--import=${join(import.meta.dirname, "hop-probe.ts")}`,
    BENCH_HOPS_DIR: dir,
  });
  const jobs: TimedJob[] = [];
  for (let i = 0; i < WARM_UP + JOBS; i += 1) {
    const job = await rig.job();
    if (i >= WARM_UP) jobs.push(job);
    await wait(PAUSE_MS);
  }
  await rig.stop();
  return jobs;
}

function timelineOf({ submittedAt, doneAt }: TimedJob, marks: readonly Mark[]): Timeline {
  // From this process's clock to the machine's.
  const shift = Number(process.hrtime.bigint()) / 1e6 - performance.now();
  const [from, to] = [submittedAt + shift, doneAt + shift];
  return { marks: marks.filter(({ at }) => at >= from && at <= to), from, to };
}

/** Milliseconds since the submit at which each hop ended: never before the one before it, never after the client's `done`. */
function hopEnds({ marks, from, to }: Timeline): readonly number[] {
  let last = from;
  const ends = HOPS.map(({ mark, nth = 1 }) => {
    const found = marks.filter(({ name }) => mark.test(name)).at(nth > 0 ? nth - 1 : nth);
    last = Math.max(last, Math.min(found?.at ?? last, to));
    return last - from;
  });
  return [...ends, to - from];
}

function tableOf(ends: readonly (readonly number[])[]): readonly string[] {
  const names = [...HOPS.map(({ what }) => what), "client has it"];
  const lines = names.map((what, hop) => {
    const spent = ends.map((each) => (each[hop] ?? 0) - (each[hop - 1] ?? 0));
    return `| ${what} | ${percentile(spent, 50).toFixed(2)} | ${percentile(spent, 95).toFixed(2)} | ${at(ends, hop)} |`;
  });
  return ["| hop | p50, ms | p95, ms | since the submit, p50 |", "|---|---|---|---|", ...lines];
}

function at(ends: readonly (readonly number[])[], hop: number): string {
  return percentile(
    ends.map((each) => each[hop] ?? 0),
    50,
  ).toFixed(2);
}
