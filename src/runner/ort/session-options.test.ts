import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Session } from "../../pipelines/backend.ts";
import type { AppError, ErrorCode } from "../../protocol/error.ts";
import type { DeviceKind } from "../../protocol/manifest.ts";
import type { RuntimeOptions } from "../../protocol/runtime-options.ts";
import { openBackend } from "../open-backend.ts";
import { probeModel } from "../probe-model.ts";
import { readConfigEntry } from "./append-providers.ts";
import { openEnvironment } from "./environment.ts";
import { packagedLibrary } from "./library.ts";
import type { PluginLibraries } from "./plugin-libraries.ts";
import { runEntries, sessionOptions } from "./session-options.ts";

process.env["ORT_DISABLE_TELEMETRY"] = "1";

const EXPAND = join(import.meta.dirname, "../../../test/fixtures/ort/expand.onnx");
const device = (kind: DeviceKind) => ({ kind, index: 0, threads: 1 });

let dir: string;
let probe: string;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "session-options-test-"));
  probe = join(dir, "probe.onnx");
  await writeFile(probe, probeModel());
});
after(() => rm(dir, { recursive: true, force: true }));

function open(path: string, options: RuntimeOptions, kind: DeviceKind = "cpu", epLibraries: PluginLibraries = {}): Promise<Session> {
  return openBackend({ device: device(kind), runtime: () => options, epLibraries }).open(path);
}

const refusal = (code: ErrorCode, message: RegExp) => (error: AppError) => {
  assert.equal(error.code, code, error.message);
  assert.match(error.message, message);
  return true;
};

describe("options of a session", () => {
  it("lets a run give its memory back to the system, and does not unless it is asked to", async () => {
    await using kept = await grown({});
    await using shrunk = await grown({ arena_shrinkage: true });
    assert.ok(kept.fell < kept.grew / 4, `without: grew ${kept.grew} bytes, fell ${kept.fell}`);
    assert.ok(shrunk.fell > (shrunk.grew * 3) / 4, `with: grew ${shrunk.grew} bytes, fell ${shrunk.fell}`);
  });

  it("takes no memory into an arena where there is none", async () => {
    await using none = await grown({ enable_cpu_mem_arena: false, enable_mem_pattern: false });
    assert.ok(none.grew < RUN_BYTES / 4, `grew ${none.grew} bytes`);
  });

  it("shrinks the arenas of the device that it has", () => {
    const runtime = (): RuntimeOptions => ({ arena_shrinkage: true });
    const key = "memory.enable_memory_arena_shrinkage";
    assert.deepEqual(runEntries("x", { device: device("cpu"), runtime }), { [key]: "cpu:0" });
    assert.deepEqual(runEntries("x", { device: { ...device("cuda"), index: 3 }, runtime }), { [key]: "gpu:3;cpu:0" });
    assert.deepEqual(runEntries("x", { device: device("cpu"), runtime: () => ({}) }), {});
  });

  it("puts config entries where the library finds them, before our own", async () => {
    const env = await openEnvironment();
    const session = { "session.disable_prepacking": "1", "session.intra_op.allow_spinning": "1" };
    using options = sessionOptions(env, EXPAND, { device: device("cpu"), runtime: () => ({ session }) });
    assert.equal(readConfigEntry(env, options, "session.disable_prepacking"), "1");
    assert.equal(readConfigEntry(env, options, "session.intra_op.allow_spinning"), "1");
    assert.equal(readConfigEntry(env, options, "session.inter_op.allow_spinning"), "0");
    assert.equal(readConfigEntry(env, options, "session.nobody.set_this"), null);
  });

  it("refuses a value that the library does not hold whole", async () => {
    // The library's own limit for a value.
    await assert.rejects(
      open(probe, { session: { "session.x": "1".repeat(5_000) } }),
      refusal("MODEL_UNSUPPORTED", /session\.x|Config value/),
    );
  });

  it("starts as many threads as it is told", { skip: process.platform !== "linux" }, async () => {
    const threads = async (count: number): Promise<number> => {
      const earlier = (await readdir("/proc/self/task")).length;
      const session = await open(probe, { intra_op_num_threads: count });
      const now = (await readdir("/proc/self/task")).length;
      await session.release();
      return now - earlier;
    };
    // The first open also starts libuv's pool.
    await threads(1);
    // The thread that asks for a run works too.
    assert.deepEqual([await threads(1), await threads(3), await threads(6)], [0, 2, 5]);
  });
});

describe("providers of a session", () => {
  it("says what is missing where there is no CUDA, options or not", async () => {
    await assert.rejects(
      open(probe, {}, "cuda"),
      refusal("DEVICE_UNAVAILABLE", /probe\.onnx cannot be opened on cuda:0: .*[Ff]ailed to load/),
    );
    const cuda = { cuda: { cudnn_conv_algo_search: "HEURISTIC" as const } };
    await assert.rejects(open(probe, cuda, "cuda"), refusal("DEVICE_UNAVAILABLE", /cannot be opened on cuda:0: .*[Ff]ailed to load/));
    const tensorrt = { providers: { cuda: ["tensorrt", "cuda"] }, tensorrt: { trt_fp16_enable: true } };
    await assert.rejects(open(probe, tensorrt, "cuda"), refusal("DEVICE_UNAVAILABLE", /cannot be opened on cuda:0: .*[Ff]ailed to load/));
  });

  it("leaves options of a GPU alone on a CPU", async () => {
    const session = await open(probe, { cuda: { use_tf32: false }, providers: { cuda: ["tensorrt"], cpu: ["cpu"] } });
    await session.release();
  });

  it("names a plugin that nobody has given a library for", async () => {
    const asked = { providers: { cpu: ["openvino"] } };
    await assert.rejects(
      open(probe, asked),
      refusal("DEVICE_UNAVAILABLE", /provider openvino is asked for, and DRYAPI_EP_LIBRARIES names no library: add openvino=/),
    );
    await assert.rejects(open(probe, asked, "cpu", { other: "/x.so" }), refusal("DEVICE_UNAVAILABLE", /names only other: add openvino=/));
  });

  it("says of a plugin's library what the loader says", async () => {
    await assert.rejects(
      open(probe, { providers: { cpu: ["absent"] } }, "cpu", { absent: "/nowhere/libprovider.so" }),
      refusal("DEVICE_UNAVAILABLE", /provider absent cannot be loaded from \/nowhere\/libprovider\.so: .*(No such file|cannot open)/),
    );
    const library = packagedLibrary();
    await assert.rejects(
      open(probe, { providers: { cpu: ["runtime"] } }, "cpu", { runtime: library }),
      refusal("DEVICE_UNAVAILABLE", /provider runtime cannot be loaded from .*: .*CreateEpFactories/),
    );
  });

  it("has no options where onnxruntime-node runs the graph", async () => {
    const backend = openBackend({ device: device("cpu"), runtime: () => ({ arena_shrinkage: true }) }, "node");
    await assert.rejects(
      backend.open(probe),
      refusal("MODEL_UNSUPPORTED", /runtime options \(arena_shrinkage\), which DRYAPI_RUNTIME=node/),
    );
  });
});

const RUN_BYTES = 256 * 1024 * 1024;

interface Grown extends AsyncDisposable {
  readonly grew: number;
  readonly fell: number;
}

/** Bytes that the process grows by in a run of RUN_BYTES, and falls by in a small one after it, while the session stays open. */
async function grown(options: RuntimeOptions): Promise<Grown> {
  const session = await open(EXPAND, options);
  const run = async (bytes: number): Promise<void> => {
    using binding = session.bind();
    binding.input("one", { type: "float32", data: Float32Array.of(1), dims: [1] });
    binding.input("shape", { type: "int64", data: BigInt64Array.of(BigInt(bytes / 4)), dims: [1] });
    binding.output("y", "device");
    (await binding.run()).device["y"]![Symbol.dispose]();
  };
  await run(4);
  const small = process.memoryUsage.rss();
  await run(RUN_BYTES);
  const large = process.memoryUsage.rss();
  await run(4);
  const grew = large - small;
  const fell = large - process.memoryUsage.rss();
  return { grew, fell, [Symbol.asyncDispose]: () => session.release() };
}
