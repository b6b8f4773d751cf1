/**
 * `scripts/verify cuda-options`: every option that a manifest or DRYAPI_RUNTIME_OPTIONS may give to onnxruntime's CUDA and TensorRT providers is
 * given to the real ones, by the code that a runner uses, and must come back as it was given. What they refuse, what they take and forget,
 * and that a device which is not there is an error, is shown too. What the options do to a run needs a GPU and is not shown here.
 *
 *   node scripts/verify-cuda-options.ts LIBRARY    libonnxruntime.so.1 beside its providers; LD_LIBRARY_PATH has what they need
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AppError } from "../src/protocol/error.ts";
import { cudaOptionsSchema, tensorrtOptionsSchema, type CudaOptions, type TensorrtOptions } from "../src/protocol/runtime-options.ts";
import { openBackend } from "../src/runner/open-backend.ts";
import { updateCuda, updateTensorrt } from "../src/runner/ort/append-providers.ts";
import { openEnvironment, type Environment } from "../src/runner/ort/environment.ts";
import { optionTexts } from "../src/runner/ort/provider-options.ts";
import { probeModel } from "../src/runner/probe-model.ts";

type Values<O> = { readonly [K in keyof Required<O>]: readonly Exclude<O[K], undefined>[] };
type Asked = Readonly<Record<string, string>>;

const FLAG = [true, false] as const;

/** Values of each option: at least two, so that one differs from the default; all that an enumeration has. */
const CUDA: Values<CudaOptions> = {
  gpu_mem_limit: [1, 8_589_934_592, Number.MAX_SAFE_INTEGER],
  arena_extend_strategy: ["kNextPowerOfTwo", "kSameAsRequested"],
  cudnn_conv_algo_search: ["EXHAUSTIVE", "HEURISTIC", "DEFAULT"],
  cudnn_conv_use_max_workspace: FLAG,
  cudnn_conv1d_pad_to_nc1d: FLAG,
  do_copy_in_default_stream: FLAG,
  use_ep_level_unified_stream: FLAG,
  use_tf32: FLAG,
  prefer_nhwc: FLAG,
  fuse_conv_bias: FLAG,
  sdpa_kernel: [0, 2, 0xffff],
};

const TENSORRT: Values<TensorrtOptions> = {
  trt_max_partition_iterations: [1, 1_000, 100_000],
  trt_min_subgraph_size: [1, 5, 100_000],
  trt_max_workspace_size: [1, 8_589_934_592, Number.MAX_SAFE_INTEGER],
  trt_fp16_enable: FLAG,
  trt_bf16_enable: FLAG,
  trt_int8_enable: FLAG,
  trt_layer_norm_fp32_fallback: FLAG,
  trt_engine_cache_enable: FLAG,
  trt_engine_cache_path: ["/var/cache/engines", "/with a blank/and=sign"],
  trt_engine_cache_prefix: ["flux", "vae"],
  trt_timing_cache_enable: FLAG,
  trt_timing_cache_path: ["/var/cache/timing", "/t"],
  trt_force_timing_cache: FLAG,
  trt_builder_optimization_level: [0, 3, 5],
  trt_auxiliary_streams: [-1, 0, 64],
  trt_context_memory_sharing_enable: FLAG,
  trt_sparsity_enable: FLAG,
  trt_engine_hw_compatible: FLAG,
  trt_op_types_to_exclude: ["MatMul", "MatMul,Conv"],
  trt_profile_min_shapes: ["x:1x3x64x64", "x:1"],
  trt_profile_opt_shapes: ["x:1x3x64x64", "x:1"],
  trt_profile_max_shapes: ["x:1x3x64x64", "x:1"],
};

interface Provider {
  readonly name: string;
  readonly values: Readonly<Record<string, readonly (boolean | number | string)[]>>;
  readonly known: readonly string[];
  /** Refused by the library's own parser. */
  readonly wrong: Asked;
  /** Taken by the library, and not reported as they were given: what `requireReported` is for. */
  readonly forgotten: Asked;
  readonly update: (env: Environment, asked: Asked) => string;
}

const PROVIDERS: readonly Provider[] = [
  {
    name: "CUDA",
    values: CUDA,
    known: Object.keys(cudaOptionsSchema.shape),
    wrong: {
      gpu_mem_limit: "8GiB",
      arena_extend_strategy: "kNever",
      cudnn_conv_algo_search: "heuristic",
      use_tf32: "7",
      sdpa_kernel: "flash",
      gpu_memory_limit: "1",
    },
    forgotten: { enable_cuda_graph: "1", user_compute_stream: "4096", tunable_op_enable: "1", enable_skip_layer_norm_strict_mode: "1" },
    update: (env, asked) => {
      const options = env.library.call.CreateCUDAProviderOptions();
      try {
        return updateCuda(env, options, asked);
      } finally {
        env.library.call.ReleaseCUDAProviderOptions(options);
      }
    },
  },
  {
    name: "TensorRT",
    values: TENSORRT,
    known: Object.keys(tensorrtOptionsSchema.shape),
    wrong: { trt_fp16_enable: "7", trt_max_partition_iterations: "many", trt_fp17_enable: "1" },
    forgotten: {},
    update: (env, asked) => {
      const options = env.library.call.CreateTensorRTProviderOptions();
      try {
        return updateTensorrt(env, options, asked);
      } finally {
        env.library.call.ReleaseTensorRTProviderOptions(options);
      }
    },
  },
];

function say(line: string): void {
  process.stdout.write(`cuda-options: ${line}\n`);
}

function failureOf(work: () => unknown): Error {
  try {
    work();
  } catch (thrown) {
    assert.ok(thrown instanceof Error);
    return thrown;
  }
  return assert.fail("it was taken");
}

function verify(env: Environment, { name, values, known, wrong, forgotten, update }: Provider): void {
  assert.deepEqual(Object.keys(values).toSorted(), known.toSorted(), `${name}: every option of the schema is tried`);
  say(`${name} reports by default: ${update(env, {})}`);
  let tried = 0;
  for (const [key, each] of Object.entries(values)) {
    assert.ok(each.length >= 2);
    for (const value of each) {
      update(env, optionTexts({ [key]: value }));
      tried += 1;
    }
  }
  const all = optionTexts(Object.fromEntries(Object.entries(values).map(([key, each]) => [key, each[0]])));
  say(`${name}: ${tried} values of ${known.length} options came back as given; all at once: ${update(env, all)}`);
  for (const [key, value] of Object.entries(wrong)) {
    const failure = failureOf(() => update(env, { [key]: value }));
    assert.ok(!(failure instanceof AppError), `${key}=${value} was taken`);
    say(`${name}: ${key}=${value} is refused by the library: ${failure.message.replace(/^.* Parse /s, "").trim()}`);
  }
  for (const [key, value] of Object.entries(forgotten)) {
    const failure = failureOf(() => update(env, { [key]: value }));
    assert.ok(failure instanceof AppError && failure.message.includes(`${key} was asked as ${value} and is reported`), failure.message);
    say(`${name}: ${failure.message}`);
  }
}

/** A whole session: on a machine with a GPU its providers report, without one it fails as a device that is not there. Resolves to whether it opened. */
async function verifySession(libraryPath: string, providers: readonly string[]): Promise<boolean> {
  const dir = mkdtempSync(join(tmpdir(), "cuda-options-"));
  try {
    const path = join(dir, "probe.onnx");
    writeFileSync(path, probeModel());
    const reports: string[] = [];
    const backend = openBackend(
      {
        device: { kind: "cuda", index: 0, threads: 1 },
        libraryPath,
        runtime: () => ({ providers: { cuda: [...providers] }, cuda: { cudnn_conv_algo_search: "HEURISTIC" } }),
        onProvider: ({ provider, options }) => reports.push(`${provider} ${options}`),
      },
      "c",
    );
    const session = await backend.open(path).catch((thrown: unknown) => {
      assert.ok(thrown instanceof AppError && thrown.code === "DEVICE_UNAVAILABLE", String(thrown));
      say(`a session on ${providers.join(", ")} is ${thrown.code}: ${thrown.message}`);
    });
    if (session === undefined) return false;
    say(`a session on ${providers.join(", ")} reports ${reports.join(" | ")}`);
    assert.equal(reports.length, providers.length);
    await session.release();
    return true;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

const [libraryPath] = process.argv.slice(2);
assert.ok(libraryPath !== undefined, "name the library");
const env = await openEnvironment(libraryPath);
say(`${libraryPath} is onnxruntime ${env.library.version}`);
for (const provider of PROVIDERS) verify(env, provider);
const hasGpu = await verifySession(libraryPath, ["cuda"]);
// The stand-ins of TensorRT's libraries would end the process where there is a device to build an engine for.
if (hasGpu) say("a session on TensorRT is left out: there is a GPU here, and TensorRT's own libraries are stand-ins");
else await verifySession(libraryPath, ["tensorrt", "cuda"]);
// The provider's library crashes when it is unloaded with the environment still there, as happens when Node's loop runs dry (seen with 1.30).
process.exit(0);
