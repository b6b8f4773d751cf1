import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Agent, request } from "node:http";
import sharp from "sharp";
import { addClient, startGateway } from "../../test/support/gateway.ts";
import { startSystem } from "../../test/support/system.ts";
import { BUILT_CLI } from "./built-cli.ts";
import { row, type Row } from "./row.ts";

const SUBMITS = Number(process.env["BENCH_SUBMITS"] ?? 100_000);
/** Until here code is compiled and the heap finds its size. */
const SETTLED = SUBMITS / 5;
const EVERY = SUBMITS / 20;
const CONCURRENCY = 16;
const FILES = 64;
const MIB = 2 ** 20;

/**
 * Memory of a gateway over 100,000 submits (some minutes: run by name only), and while 16 clients at a time send pictures of 10 MB, as data
 * URIs in JSON and as multipart.
 */
export async function submitMemoryRows(): Promise<readonly Row[]> {
  await using system = await startSystem({}, BUILT_CLI);
  const env = { DRYAPI_RATE_PER_MINUTE: "0", DRYAPI_MODELS: "tiny-flux-schnell" };
  await using gateway = await startGateway(system, env, BUILT_CLI);
  const key = await addClient(system);
  const send = sender(gateway.url, key);
  const series: number[] = [];
  const body = (at: number): string =>
    JSON.stringify({ model: "tiny-flux-schnell", prompt: `a lighthouse at dusk, ${at}`, width: 256, height: 256, steps: 4 });
  for (let done = 0; done < SUBMITS; done += EVERY) {
    await inTurns(EVERY, (at) => send("txt2img", "application/json", [body(done + at)]));
    series.push((await memoryOf(gateway.pid)).rss / MIB);
    process.stderr.write(`submit-memory: ${done + EVERY} submits, RSS ${series.at(-1)?.toFixed(0)} MiB\n`);
  }
  const settled = series.slice(SETTLED / EVERY);
  const half = Math.floor(settled.length / 2);
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

  const picture = await sharp(randomBytes(1_800 ** 2 * 3), { raw: { width: 1_800, height: 1_800, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
  const uri = Buffer.from(`{"model":"tiny-flux-schnell","prompt":"x","steps":2,"image":"data:;base64,${picture.toString("base64")}"}`);
  const part = (name: string, rest = ""): string => `--B\r\nContent-Disposition: form-data; name="${name}"${rest}\r\n\r\n`;
  const form = [
    `${part("model")}tiny-flux-schnell\r\n${part("prompt")}x\r\n${part("image", '; filename="a.png"')}`,
    picture,
    "\r\n--B--\r\n",
  ];
  const peaks: Record<"json" | "form", number> = { json: 0, form: 0 };
  for (const kind of ["form", "json"] as const) {
    await using fresh = await startGateway(system, env, BUILT_CLI);
    const upload = sender(fresh.url, key);
    await inTurns(FILES, () =>
      kind === "json" ? upload("img2img", "application/json", [uri]) : upload("img2img", "multipart/form-data; boundary=B", form),
    );
    peaks[kind] = (await memoryOf(fresh.pid)).peak / MIB;
  }
  return [
    row({
      name: `RSS of a gateway over ${SUBMITS} submits (bare: the first half after ${SETTLED})`,
      unit: "MiB",
      ours: mean(settled.slice(half)),
      bare: mean(settled.slice(0, half)),
      goal: { text: "<= 1.05", met: ({ ratio }) => ratio <= 1.05 },
    }),
    row({
      name: `peak RSS, ${FILES} pictures of 10 MB as data URIs, ${CONCURRENCY} at a time (bare: multipart)`,
      unit: "MiB",
      ours: peaks.json,
      bare: peaks.form,
      goal: { text: "<= 1.5", met: ({ ratio }) => ratio <= 1.5 },
    }),
  ];
}

type Send = (task: string, type: string, body: readonly (string | Buffer)[]) => Promise<void>;

function sender(url: string, key: string): Send {
  const agent = new Agent({ keepAlive: true, maxSockets: CONCURRENCY });
  return (task, type, body) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const length = body.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0);
    const headers = { Authorization: `Bearer ${key}`, "Content-Type": type, "Content-Length": length };
    const sent = request(`${url}/api/v1/client/${task}`, { method: "POST", agent, headers }, (response) => {
      response.resume();
      response.on("end", () => (response.statusCode === 200 ? resolve() : reject(new Error(`${task} answered ${response.statusCode}`))));
    });
    sent.on("error", reject);
    for (const piece of body) sent.write(piece);
    sent.end();
    return promise;
  };
}

async function inTurns(count: number, work: (at: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
}

async function memoryOf(pid: number): Promise<{ readonly rss: number; readonly peak: number }> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const field = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+) kB`).exec(status)?.[1] ?? NaN) * 1024;
  return { rss: field("VmRSS"), peak: field("VmHWM") };
}
