import assert from "node:assert/strict";
import { test } from "node:test";
import type { ErrorCode } from "../protocol/error.ts";
import { OrtFailure } from "./ort/ort-failure.ts";
import { openError, runError } from "./ort-error.ts";

/** Messages as onnxruntime writes them; shortened behind `expr=`. */
const node = (kind: string, status: string): string =>
  `Non-zero status code returned while running ${kind} node. Name:'${kind}_42' Status Message: ${status}`;
const where =
  "; GPU=0 ; hostname=host ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/gpu_data_transfer.cc ; line=63 ; expr=cudaMemcpyAsync(dst);";

const IN_A_RUN: readonly (readonly [ErrorCode, string])[] = [
  ["DEVICE_FAILED", `CUDA failure 700: an illegal memory access was encountered ${where}`],
  ["DEVICE_FAILED", node("Memcpy", `CUDA failure 719: unspecified launch failure ${where}`)],
  ["DEVICE_FAILED", `CUDA failure 214: uncorrectable ECC error encountered ${where}`],
  ["DEVICE_FAILED", `CUDA failure 702: the launch timed out and was terminated ${where}`],
  ["DEVICE_FAILED", `CUDA failure 716: misaligned address ${where}`],
  ["DEVICE_FAILED", `CUDA failure 999: unknown error ${where}`],
  ["DEVICE_FAILED", node("Gemm", `CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED ${where}`)],
  ["DEVICE_FAILED", node("Conv", `CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ${where}`)],
  ["DEVICE_FAILED", node("Conv", "CUDNN error executing cudnnConvolutionForward(s_.handle, &alpha)")],
  [
    "DEVICE_FAILED",
    node(
      "Conv",
      `Failed to initialize CUDNN Frontend/onnxruntime_src/onnxruntime/core/providers/cuda/cudnn_fe_call.cc:99 CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ${where}`,
    ),
  ],
  ["DEVICE_FAILED", "Device was lost: Vulkan queue submit failed with VK_ERROR_DEVICE_LOST"],
  ["OUT_OF_MEMORY", `CUDA failure 2: out of memory ${where}`],
  ["OUT_OF_MEMORY", `CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ${where}`],
  ["OUT_OF_MEMORY", node("Conv", `CUDNN failure 4002: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ${where}`)],
  [
    "OUT_OF_MEMORY",
    node(
      "Expand",
      "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) Failed to allocate memory for requested buffer of size 4000000000000",
    ),
  ],
  ["PIPELINE_FAILED", node("Conv", `CUDNN failure 9: CUDNN_STATUS_NOT_SUPPORTED ${where}`)],
  ["PIPELINE_FAILED", node("FusedConv", `CUDNN failure 3: CUDNN_STATUS_BAD_PARAM ${where}`)],
  ["PIPELINE_FAILED", node("MatMul", `CUBLAS failure 7: CUBLAS_STATUS_INVALID_VALUE ${where}`)],
  ["PIPELINE_FAILED", `CUDA failure 9: invalid configuration argument ${where}`],
  [
    "PIPELINE_FAILED",
    node("Reshape", "The input tensor cannot be reshaped to the requested shape. Input shape:{2,3}, requested shape:{7}"),
  ],
  ["PIPELINE_FAILED", "input 'x' is missing in 'feeds'."],
  ["DEVICE_UNAVAILABLE", `CUDA failure 209: no kernel image is available for execution on the device ${where}`],
];

test("a device that fails in a run is told apart from memory that runs out and from a graph that it cannot do", () => {
  for (const [code, text] of IN_A_RUN) assert.equal(runError(new Error(text), "/m/model.onnx", "cuda:0").code, code, text);
});

test("while a graph is opened, the same failures say that the device cannot be used", () => {
  for (const [text, code] of [
    [`Exception during initialization: CUBLAS failure 1: CUBLAS_STATUS_NOT_INITIALIZED ${where}`, "DEVICE_UNAVAILABLE"],
    [`CUDA failure 100: no CUDA-capable device is detected ${where}`, "DEVICE_UNAVAILABLE"],
    ["OrtSessionOptionsAppendExecutionProvider_Cuda: Failed to load shared library", "DEVICE_UNAVAILABLE"],
    [`Exception during initialization: CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ${where}`, "OUT_OF_MEMORY"],
    ["Protobuf parsing failed.", "MODEL_CORRUPT"],
  ] as const)
    assert.equal(openError(new Error(text), "/m/model.onnx", "cuda:0").code, code, text);
});

test("a provider's option that the library cannot read is told in its words alone", () => {
  const said =
    '/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider_info.cc:62 static onnxruntime::CUDAExecutionProviderInfo onnxruntime::CUDAExecutionProviderInfo::FromProviderOptions(const onnxruntime::ProviderOptions&) [ONNXRuntimeError] : 1 : FAIL : provider_options_utils.h:187 Parse Failed to parse provider option "sdpa_kernel"';
  const { code, message } = openError(new Error(said), "/m/vae.onnx", "cuda:1");
  assert.equal(code, "MODEL_UNSUPPORTED");
  assert.equal(
    message,
    '/m/vae.onnx cannot be opened on cuda:1: provider_options_utils.h:187 Parse Failed to parse provider option "sdpa_kernel"',
  );
});

test("the message names the file and the device, without the C++ before onnxruntime's words", () => {
  const { message } = runError(new Error(IN_A_RUN[14]?.[1]), "/m/vae.onnx", "cuda:1");
  assert.match(message, /^\/m\/vae\.onnx failed on cuda:1: Non-zero status code .* Failed to allocate memory/);
  assert.doesNotMatch(message, /bfc_arena\.cc/);
});

test("a file at fault is known by the C API's code, whatever a later version says; memory and devices by the text", () => {
  for (const [code, number, text] of [
    ["MODEL_CORRUPT", 3, "no text that we know"],
    ["MODEL_CORRUPT", 7, "no text that we know"],
    ["MODEL_UNSUPPORTED", 9, "no text that we know"],
    ["MODEL_UNSUPPORTED", 1, "no text that we know"],
    ["OUT_OF_MEMORY", 6, "Failed to allocate memory for requested buffer of size 8"],
  ] as const) {
    assert.equal(openError(new OrtFailure(number, text), "/m/model.onnx", "cpu:0").code, code, `${number} ${text}`);
  }
});
