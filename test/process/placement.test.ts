import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "..", "..");
const exec = promisify(execFile);
/** Vulkan on the CPU, which comes with Debian's chromium: onnxruntime's WebGPU provider runs on it, and leaves some nodes to the CPU. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";
const WITHOUT_VULKAN = existsSync(SWIFTSHADER) ? false : `${SWIFTSHADER} is not here: install chromium`;

interface Report {
  readonly reports: readonly {
    readonly slug: string;
    readonly placement: {
      readonly device: string;
      readonly error?: string;
      readonly graphs: readonly {
        readonly path: string;
        readonly operators: Readonly<Record<string, Readonly<Record<string, number>>>>;
      }[];
    };
  }[];
}

const sum = (counts: Readonly<Record<string, number>>): number => Object.values(counts).reduce((all, count) => all + count, 0);

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "dryapi-placement-test-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

function verify(dir: string, more: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<{ readonly stdout: string }> {
  return exec(process.execPath, [join(ROOT, "src", "cli.ts"), "models", "verify", ...args], {
    env: { PATH: process.env["PATH"] ?? "", HOME: dir, DRYAPI_STATE_DIR: dir, ...more },
  });
}

/** Writes onnxruntime's own profile of a run into the folder. In a process without our code. */
async function profile(provider: string, graph: string, dir: string): Promise<void> {
  const script = `
    const ort = require(${JSON.stringify(createRequire(import.meta.url).resolve("onnxruntime-node"))});
    const feeds = (session) => Object.fromEntries(session.inputMetadata.map(({ name, type, shape }) => {
      const dims = shape.map((size) => (typeof size === "number" ? size : 2));
      const Data = { int64: BigInt64Array, int32: Int32Array, float32: Float32Array }[type];
      return [name, new ort.Tensor(type, new Data(dims.reduce((all, size) => all * size, 1)), dims)];
    }));
    (async () => {
      const session = await ort.InferenceSession.create(${JSON.stringify(graph)}, {
        executionProviders: [${JSON.stringify(provider)}], graphOptimizationLevel: "all", interOpNumThreads: 1,
        enableProfiling: true, profileFilePrefix: ${JSON.stringify(join(dir, "profile"))},
      });
      await session.run(feeds(session));
      session.endProfiling();
      await session.release();
    })();`;
  await exec(process.execPath, ["-e", script], {
    env: { PATH: process.env["PATH"] ?? "", ORT_DISABLE_TELEMETRY: "1", VK_ICD_FILENAMES: SWIFTSHADER },
  });
}

/** Nodes by provider that ran, copies between devices left out. */
async function profiledNodes(provider: string, graph: string, dir: string): Promise<Readonly<Record<string, number>>> {
  await profile(provider, graph, dir);
  const name = (await readdir(dir)).find((file) => file.startsWith("profile")) ?? "";
  const events = JSON.parse(await readFile(join(dir, name), "utf8")) as readonly {
    readonly cat?: string;
    readonly args?: { readonly provider?: string; readonly op_name?: string };
  }[];
  const counts: Record<string, number> = {};
  for (const { cat, args } of events) {
    if (cat !== "Node" || args?.provider === undefined || args.op_name?.startsWith("Memcpy") === true) continue;
    counts[args.provider] = (counts[args.provider] ?? 0) + 1;
  }
  return counts;
}

test("on the CPU no node is left to another provider, and all graphs are told of", async (t) => {
  const dir = await folder(t);
  const { reports } = JSON.parse((await verify(dir, {}, "tiny-whisper", "tiny-kokoro", "--device", "cpu", "--json")).stdout) as Report;
  const found = reports.map(({ slug, placement }) => [slug, placement.graphs.map(({ operators }) => Object.keys(operators))]);
  assert.deepEqual(found, [
    ["tiny-whisper", [["CPUExecutionProvider"], ["CPUExecutionProvider"]]],
    ["tiny-kokoro", [["CPUExecutionProvider"]]],
  ]);
});

test("where a provider leaves nodes to the CPU, it says how many and which", { skip: WITHOUT_VULKAN }, async (t) => {
  const dir = await folder(t);
  const vulkan = { VK_ICD_FILENAMES: SWIFTSHADER };
  const { reports } = JSON.parse((await verify(dir, vulkan, "tiny-flux-schnell", "--device", "webgpu", "--json")).stdout) as Report;
  const graphs = reports[0]?.placement.graphs ?? [];
  assert.equal(graphs.length, 5, JSON.stringify(reports));
  // What really ran on the CPU, by onnxruntime's own profile of a run.
  const encoder = graphs.find(({ path }) => path === "text_encoder/model.onnx")?.operators["CPUExecutionProvider"] ?? {};
  const ran = await profiledNodes("webgpu", join(ROOT, "models", "tiny-flux-schnell", "text_encoder", "model.onnx"), dir);
  assert.ok(sum(encoder) > 0);
  assert.equal(sum(encoder), ran["CPUExecutionProvider"]);
  const { stdout } = await verify(dir, vulkan, "tiny-flux-schnell", "--device", "webgpu");
  assert.match(stdout, /text_encoder\/model\.onnx: on WebGpuExecutionProvider, but for \d+ nodes on CPUExecutionProvider: Gather \d+, /);
});

test("a device that cannot be used is named with its cause", async (t) => {
  const dir = await folder(t);
  const none = { VK_ICD_FILENAMES: join(dir, "none.json") };
  await assert.rejects(
    verify(dir, none, "tiny-vits", "--device", "webgpu"),
    (thrown: { readonly code: number; readonly stdout: string }) => {
      assert.equal(thrown.code, 1);
      assert.match(thrown.stdout, /fail {2}tiny-vits on webgpu:0: device webgpu:0 cannot be used: .*vkCreateInstance/s);
      return true;
    },
  );
  await assert.rejects(verify(dir, { PATH: "/usr/bin" }, "tiny-vits", "--device", "npu"), { code: 2 });
});
