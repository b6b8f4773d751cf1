import assert from "node:assert/strict";
import { test } from "node:test";
import type { AppError } from "../../protocol/error.ts";
import { optionTexts, parseReport, requireReported } from "./provider-options.ts";

/** What onnxruntime 1.30's CUDA provider reports of itself, shortened. */
const REPORT =
  "sdpa_kernel=0;use_tf32=0;prefer_nhwc=0;device_id=0;cudnn_conv_algo_search=HEURISTIC;gpu_mem_limit=8589934592;trt_engine_cache_path=/a=b;x=";

test("options go to the library as texts, and come back from its report", () => {
  const asked = optionTexts({ use_tf32: false, cudnn_conv_algo_search: "HEURISTIC", gpu_mem_limit: 8_589_934_592, left_out: undefined });
  assert.deepEqual(asked, { use_tf32: "0", cudnn_conv_algo_search: "HEURISTIC", gpu_mem_limit: "8589934592" });
  const reported = parseReport(REPORT);
  assert.deepEqual([reported.get("trt_engine_cache_path"), reported.get("x"), reported.size], ["/a=b", "", 8]);
  requireReported("CUDA", asked, reported);
});

test("an option that comes back otherwise, or not at all, is refused with both values", () => {
  const asked = { use_tf32: "1", prefer_nhwc: "0", enable_cuda_graph: "1" };
  assert.throws(
    () => requireReported("CUDA", asked, parseReport(REPORT)),
    (error: AppError) =>
      error.code === "MODEL_UNSUPPORTED" &&
      /CUDA provider .* use_tf32 was asked as 1 and is reported as 0, enable_cuda_graph was asked as 1 and is reported not at all; leave them out/.test(
        error.message,
      ),
  );
});
