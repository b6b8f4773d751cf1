/** Started by test/conformance/runtime-process.test.ts: what can only be seen in a process of its own. The first argument says what. */
import { readFile } from "node:fs/promises";
import sharp from "sharp";
import { count, fixture, floats, must, RUNTIMES, type RuntimeName } from "./runtimes.ts";
import { FOREVER } from "./runtime-fuzz.ts";

const [what, runtime = "c"] = process.argv.slice(2);
const backend = RUNTIMES[runtime as RuntimeName]();
const forever = { times: count(FOREVER), x: floats([0]) };

async function opens(times: number): Promise<void> {
  for (let at = 0; at < times; at += 1) await (await backend.open(fixture("accumulate"))).release();
}

async function runs(times: number): Promise<void> {
  const session = await backend.open(fixture("accumulate"));
  const x = { type: "float32", data: new Float32Array(1000), dims: [1000] } as const;
  for (let at = 0; at < times; at += 1) {
    using binding = session.bind();
    binding.input("state", x);
    binding.input("x", x);
    binding.output("next", "device");
    must((await binding.run()).device["next"])[Symbol.dispose]();
  }
  await session.release();
}

/** Bytes by which the process has grown; what is made once is made before. */
async function growth(work: (times: number) => Promise<void>, times: number): Promise<number> {
  await work(Math.ceil(times / 5));
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  await work(times);
  globalThis.gc?.();
  return process.memoryUsage().rss - before;
}

if (what === "grow") {
  console.log(JSON.stringify({ opens: await growth(opens, 1000), runs: await growth(runs, 10_000) }));
} else if (what === "collect") {
  const session = await backend.open(fixture("scalar"));
  for (let at = 0; at < 10; at += 1) {
    globalThis.gc?.();
    await new Promise((done) => setImmediate(done));
  }
  console.log((await session.run({ x: floats([3], []) }))["y"]?.data[0]);
} else if (what === "exit") {
  const session = await backend.open(fixture("loop"));
  void session.run(forever);
  setImmediate(() => process.exit(7));
} else if (what === "throw") {
  const session = await backend.open(fixture("loop"));
  void session.run(forever);
  setImmediate(() => {
    throw new Error("nobody catches this");
  });
} else if (what === "pool") {
  const abort = new AbortController();
  backend.guard(abort.signal);
  const sessions = await Promise.all(Array.from({ length: 8 }, () => backend.open(fixture("loop"))));
  const ended = sessions.map((session) => session.run(forever).catch((thrown: { readonly code: string }) => thrown.code));
  await new Promise((done) => setImmediate(done));
  const { length } = await readFile(fixture("loop"));
  const { width } = (
    await sharp({ create: { width: 9, height: 9, channels: 3, background: "red" } })
      .png()
      .toBuffer({ resolveWithObject: true })
  ).info;
  abort.abort();
  console.log(JSON.stringify({ read: length > 0, width, ended: [...new Set(await Promise.all(ended))] }));
}
