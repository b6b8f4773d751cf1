import { z } from "zod";

/**
 * What onnxruntime is told beyond its defaults: for a model and for a part of it in the manifest, for a machine by DRYAPI_RUNTIME_OPTIONS.
 * Names and values are onnxruntime's own. What it takes and reports back of the provider options is shown by `scripts/verify cuda-options`.
 */
const flag = z.boolean();
const count = (min: number, max: number): z.ZodInt => z.int().min(min).max(max);
/** Provider options are reported as `key=value;key=value`. */
const text = z
  .string()
  .min(1)
  .max(1_024)
  .regex(/^[^;\0\n]*$/, "must hold no semicolon and no line break");
const name = z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, "must be 1 to 32 of a-z 0-9 _ - and begin with a letter");

/** Why an option of onnxruntime's is not one of ours. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  device_id: "it is the device that the model is loaded on",
  enable_cuda_graph:
    "a replayed CUDA graph reads its inputs where they were at the capture, and inputs are put into new memory here; onnxruntime 1.30 does not report it back either",
  trt_cuda_graph_enable: "a replayed CUDA graph reads its inputs where they were at the capture, and inputs are put into new memory here",
  user_compute_stream: "a process has one model and no kernels of its own that would have to share its stream",
  has_user_compute_stream: "a process has one model and no kernels of its own that would have to share its stream",
  tunable_op_enable: "onnxruntime 1.30 takes it and reports it as off",
  tunable_op_tuning_enable: "onnxruntime 1.30 takes it and reports it as off",
  tunable_op_max_tuning_duration_ms: "onnxruntime 1.30 takes it and reports it as 0",
  enable_skip_layer_norm_strict_mode: "onnxruntime 1.30 takes it and does not report it",
};

/** An object that names what it does not know, with the reason where there is one. */
function closed<S extends z.core.$ZodLooseShape>(shape: S): z.ZodObject<S, z.core.$strict> {
  return z.strictObject(shape, {
    error: (issue) => {
      if (issue.code !== "unrecognized_keys") return undefined;
      const known = Object.keys(shape).toSorted().join(", ");
      const unknown = issue.keys.map((key) => (LEFT_OUT[key] === undefined ? key : `${key} (left out: ${LEFT_OUT[key]})`));
      return `unknown: ${unknown.join(", ")}; expected ${known}`;
    },
  });
}

/** Entries by a name that has to be of a form: what is wrong with a name is said. */
function named<V extends z.ZodType>(key: z.ZodString, value: V): z.ZodRecord<z.ZodString, V> {
  return z.record(key, value, {
    error: (issue) => (issue.code === "invalid_key" ? issue.issues.map(({ message }) => `the name ${message}`).join(", ") : undefined),
  });
}

/** Numbers of bytes and counts are written as they are, flags as 1 and 0. */
export const cudaOptionsSchema = closed({
  /** Bytes that the memory arena of one graph may hold on the device. */
  gpu_mem_limit: count(1, Number.MAX_SAFE_INTEGER).optional(),
  arena_extend_strategy: z.enum(["kNextPowerOfTwo", "kSameAsRequested"]).optional(),
  cudnn_conv_algo_search: z.enum(["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]).optional(),
  cudnn_conv_use_max_workspace: flag.optional(),
  cudnn_conv1d_pad_to_nc1d: flag.optional(),
  do_copy_in_default_stream: flag.optional(),
  use_ep_level_unified_stream: flag.optional(),
  use_tf32: flag.optional(),
  prefer_nhwc: flag.optional(),
  fuse_conv_bias: flag.optional(),
  /** Bits of onnxruntime's AttentionBackend; 0 leaves the choice to it. */
  sdpa_kernel: count(0, 0xffff).optional(),
});

export const tensorrtOptionsSchema = closed({
  trt_max_partition_iterations: count(1, 100_000).optional(),
  trt_min_subgraph_size: count(1, 100_000).optional(),
  trt_max_workspace_size: count(1, Number.MAX_SAFE_INTEGER).optional(),
  trt_fp16_enable: flag.optional(),
  trt_bf16_enable: flag.optional(),
  trt_int8_enable: flag.optional(),
  trt_layer_norm_fp32_fallback: flag.optional(),
  trt_engine_cache_enable: flag.optional(),
  trt_engine_cache_path: text.optional(),
  trt_engine_cache_prefix: text.optional(),
  trt_timing_cache_enable: flag.optional(),
  trt_timing_cache_path: text.optional(),
  trt_force_timing_cache: flag.optional(),
  trt_builder_optimization_level: count(0, 5).optional(),
  trt_auxiliary_streams: count(-1, 64).optional(),
  trt_context_memory_sharing_enable: flag.optional(),
  trt_sparsity_enable: flag.optional(),
  trt_engine_hw_compatible: flag.optional(),
  trt_op_types_to_exclude: text.optional(),
  trt_profile_min_shapes: text.optional(),
  trt_profile_opt_shapes: text.optional(),
  trt_profile_max_shapes: text.optional(),
});

/** Config entries that this program sets itself, that write files, or that make onnxruntime read weights from elsewhere. */
const OWN_ENTRIES: readonly RegExp[] = [
  /^session\.(load_cancellation|record_ep_graph_assignment_info)/,
  /^session\.(debug_layout_transformation|save_)/,
  /^session\.(model_external_initializers|optimized_model_external)/,
  /^session\.use_env_allocators$/,
  /^ep\.context_/,
];

const entryName = z
  .string()
  .max(256)
  .regex(/^(session|ep|mlas|optimization)\.[A-Za-z0-9_.]+$/, "must begin with session. or ep. or mlas. or optimization.")
  .refine((key) => !OWN_ENTRIES.some((own) => own.test(key)), "is set by this program, writes files or reads weights from elsewhere");

/** Providers that need no library of DRYAPI_EP_LIBRARIES. */
export const BUILT_IN_PROVIDERS: ReadonlySet<string> = new Set(["cpu", "cuda", "tensorrt", "webgpu"]);

/** Provider names in the order in which onnxruntime asks them for nodes; what none of them takes runs on the CPU. */
const order = (own: readonly string[]) =>
  z
    .array(
      name.refine(
        (given) => own.includes(given) || !BUILT_IN_PROVIDERS.has(given),
        `of the built-in ones it may be ${own.join(" or ")} here`,
      ),
    )
    .min(1)
    .max(8)
    .refine((given) => new Set(given).size === given.length, "names a provider twice");

export const runtimeOptionsSchema = closed({
  /** By the device's kind. With `cpu` as the last, a graph that none of the others takes may run on the CPU. Names that are not built in are those of DRYAPI_EP_LIBRARIES. */
  providers: closed({
    cuda: order(["tensorrt", "cuda", "cpu"]).optional(),
    webgpu: order(["webgpu", "cpu"]).optional(),
    cpu: order(["cpu"]).optional(),
  }).optional(),
  cuda: cudaOptionsSchema.optional(),
  tensorrt: tensorrtOptionsSchema.optional(),
  /** Options of plugin providers, by the names of DRYAPI_EP_LIBRARIES. */
  plugins: named(name, named(z.string().regex(/^[A-Za-z0-9_.]{1,128}$/, "must be 1 to 128 of A-Z a-z 0-9 _ ."), text)).optional(),
  /** Session config entries. onnxruntime keeps those that it does not know, without a word. */
  session: named(entryName, z.string().max(1_024)).optional(),
  /** Threads of CPU kernels of one graph; 0 leaves it to onnxruntime. */
  intra_op_num_threads: count(0, 1_024).optional(),
  enable_cpu_mem_arena: flag.optional(),
  enable_mem_pattern: flag.optional(),
  /** Memory that a run took and no longer needs goes back to the device (to the system on a CPU) at its end. */
  arena_shrinkage: flag.optional(),
});

export type RuntimeOptions = z.infer<typeof runtimeOptionsSchema>;
export type CudaOptions = z.infer<typeof cudaOptionsSchema>;
export type TensorrtOptions = z.infer<typeof tensorrtOptionsSchema>;

/** One out of several, the later ones before the earlier ones: option by option, and a list of providers as a whole. */
export function layerOptions(...layers: readonly (RuntimeOptions | undefined)[]): RuntimeOptions {
  let merged: RuntimeOptions = {};
  for (const layer of layers) if (layer !== undefined) merged = layOver(merged, layer);
  return merged;
}

function layOver(below: RuntimeOptions, above: RuntimeOptions): RuntimeOptions {
  const plugins = [...new Set([...Object.keys(below.plugins ?? {}), ...Object.keys(above.plugins ?? {})])];
  return {
    ...below,
    ...above,
    ...(below.providers && above.providers && { providers: { ...below.providers, ...above.providers } }),
    ...(below.cuda && above.cuda && { cuda: { ...below.cuda, ...above.cuda } }),
    ...(below.tensorrt && above.tensorrt && { tensorrt: { ...below.tensorrt, ...above.tensorrt } }),
    ...(below.session && above.session && { session: { ...below.session, ...above.session } }),
    ...(plugins.length > 0 && {
      plugins: Object.fromEntries(plugins.map((plugin) => [plugin, { ...below.plugins?.[plugin], ...above.plugins?.[plugin] }])),
    }),
  };
}
