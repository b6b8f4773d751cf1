import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { layerOptions, runtimeOptionsSchema } from "./runtime-options.ts";

const WHOLE = {
  providers: { cuda: ["tensorrt", "cuda"], cpu: ["openvino", "cpu"] },
  cuda: { gpu_mem_limit: 8_589_934_592, arena_extend_strategy: "kSameAsRequested", cudnn_conv_algo_search: "HEURISTIC", use_tf32: false },
  tensorrt: { trt_fp16_enable: true, trt_engine_cache_path: "/var/cache/engines" },
  plugins: { openvino: { device_type: "CPU" } },
  session: { "session.disable_prepacking": "1", "ep.cuda.some_option": "2" },
  intra_op_num_threads: 4,
  enable_cpu_mem_arena: false,
  enable_mem_pattern: false,
  arena_shrinkage: true,
};

test("what onnxruntime knows is taken as it is", () => {
  assert.deepEqual(runtimeOptionsSchema.parse(WHOLE), WHOLE);
});

const REFUSED: readonly (readonly [string, unknown, RegExp])[] = [
  ["an unknown section", { gpu: {} }, /unknown: gpu; expected arena_shrinkage, cuda, /],
  ["an unknown option of CUDA", { cuda: { gpu_memory_limit: 1 } }, /unknown: gpu_memory_limit; expected .*gpu_mem_limit/],
  ["an unknown option of TensorRT", { tensorrt: { trt_fp17_enable: true } }, /unknown: trt_fp17_enable; expected .*trt_fp16_enable/],
  [
    "a CUDA graph, with the reason",
    { cuda: { enable_cuda_graph: true } },
    /enable_cuda_graph \(left out: .*inputs are put into new memory/,
  ],
  ["a stream of the user's, with the reason", { cuda: { user_compute_stream: 1 } }, /user_compute_stream \(left out: .*one model/],
  ["the device", { cuda: { device_id: 1 } }, /device_id \(left out: it is the device that the model is loaded on\)/],
  ["a memory limit of nothing", { cuda: { gpu_mem_limit: 0 } }, /gpu_mem_limit/],
  ["a memory limit in words", { cuda: { gpu_mem_limit: "8GiB" } }, /gpu_mem_limit/],
  ["another strategy", { cuda: { arena_extend_strategy: "kNever" } }, /kNextPowerOfTwo/],
  ["another search", { cuda: { cudnn_conv_algo_search: "heuristic" } }, /EXHAUSTIVE/],
  ["a flag as a number", { cuda: { use_tf32: 1 } }, /use_tf32/],
  ["a builder level beyond five", { tensorrt: { trt_builder_optimization_level: 6 } }, /trt_builder_optimization_level/],
  ["a semicolon, which would end the option", { tensorrt: { trt_engine_cache_path: "/a;trt_int8_enable=1" } }, /no semicolon/],
  ["a GPU's provider on the CPU", { providers: { cpu: ["cuda"] } }, /may be cpu here/],
  ["a provider that is named twice", { providers: { cuda: ["cuda", "cuda"] } }, /names a provider twice/],
  ["no provider", { providers: { cuda: [] } }, /cuda/],
  ["a config entry that is none", { session: { "log.severity": "0" } }, /must begin with session\./],
  ["a config entry of our own", { session: { "session.record_ep_graph_assignment_info": "0" } }, /is set by this program/],
  ["weights from elsewhere", { session: { "session.model_external_initializers_file_folder_path": "/" } }, /reads weights from elsewhere/],
  ["a file that is written", { session: { "ep.context_enable": "1" } }, /writes files/],
  ["more threads than there are", { intra_op_num_threads: 4_096 }, /intra_op_num_threads/],
];

for (const [what, value, message] of REFUSED) {
  test(`refused: ${what}`, () => {
    const parsed = runtimeOptionsSchema.safeParse(value);
    assert.ok(!parsed.success, "it was taken");
    assert.match(z.prettifyError(parsed.error), message);
  });
}

test("later layers stand before earlier ones, option by option", () => {
  const manifest = runtimeOptionsSchema.parse({
    providers: { cuda: ["tensorrt", "cuda"], cpu: ["openvino"] },
    cuda: { use_tf32: true, cudnn_conv_algo_search: "HEURISTIC" },
    plugins: { openvino: { a: "1", b: "1" } },
    session: { "session.x": "1" },
    arena_shrinkage: true,
  });
  const part = runtimeOptionsSchema.parse({ cuda: { cudnn_conv_algo_search: "EXHAUSTIVE" }, plugins: { openvino: { b: "2" } } });
  const operator = runtimeOptionsSchema.parse({ providers: { cuda: ["cuda"] }, cuda: { use_tf32: false }, session: { "session.y": "2" } });
  assert.deepEqual(layerOptions(manifest, part, operator), {
    providers: { cuda: ["cuda"], cpu: ["openvino"] },
    cuda: { use_tf32: false, cudnn_conv_algo_search: "EXHAUSTIVE" },
    plugins: { openvino: { a: "1", b: "2" } },
    session: { "session.x": "1", "session.y": "2" },
    arena_shrinkage: true,
  });
  assert.deepEqual(layerOptions(undefined, manifest, undefined), manifest);
  assert.deepEqual(layerOptions(), {});
});
