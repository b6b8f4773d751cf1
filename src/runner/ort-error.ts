import { AppError, type ErrorCode } from "../protocol/error.ts";
import { OrtFailure } from "./ort/ort-failure.ts";

/**
 * Errors of onnxruntime-node are plain `Error`s without a code: only their text tells them apart (texts of 1.30). Those of the C API have
 * one, which is as good where a file is at fault, and says no more than "failed" for memory and devices.
 */
interface Rule {
  readonly code: ErrorCode;
  readonly text: RegExp;
}

/** Before all else: an allocation that fails inside CUDA mentions CUDA as well. */
const MEMORY: Rule = {
  code: "OUT_OF_MEMORY",
  text: /failed to allocate memory|out of memory|bad_alloc|bad allocation|memoryallocation|ALLOC(ATION)?_FAILED|CL_MEM_OBJECT_ALLOCATION/i,
};

/** The libraries and the driver refuse what they were asked for: shapes or types of the graph that they cannot do. The device is well. */
const REFUSED: Rule = {
  code: "PIPELINE_FAILED",
  text: /CU(DNN|BLAS)_STATUS_(BAD_PARAM|INVALID_VALUE|NOT_SUPPORTED|SUBLIBRARY_VERSION_MISMATCH)|CUDA failure (1|9): /i,
};

/** There is no such device, or nothing that could drive it. */
const ABSENT: Rule = {
  code: "DEVICE_UNAVAILABLE",
  text: /failed to load shared library|failed to load library|get a webgpu adapter|no available backend|execution provider is not enabled|no kernel image|invalid device ordinal|no CUDA-capable device|driver version is insufficient|ARCH_MISMATCH/i,
};

/** It was there, and failed: illegal accesses, ECC errors, launches that fail, a GPU that fell off the bus, a driver that was reset. */
const BROKEN: Rule = {
  code: "DEVICE_FAILED",
  text: /(CUDA|CUDNN|CUDNN_FE|CUBLAS|CUBLASLT|CUFFT|CURAND|NCCL) (failure|error)|CU(DNN|BLAS)_STATUS_|cudaError|CUDNN Frontend|illegal (memory access|address|instruction)|misaligned address|launch (failure|failed|timed out)|uncorrectable ECC|device (is |was )?lost|DEVICE_LOST|device-side assert/i,
};

const FILES: readonly Rule[] = [
  {
    code: "MODEL_CORRUPT",
    text: /file doesn't exist|protobuf parsing failed|does not have a graph|external (data|initializer)|deserialize tensor/i,
  },
  {
    code: "MODEL_UNSUPPORTED",
    text: /could not find an implementation|not a registered function|no op registered|unsupported data type|unsupported model ir|opset|not implemented/i,
  },
];

/** While a graph is opened a device that fails is one that cannot be used. */
const OPEN_RULES: readonly Rule[] = [MEMORY, ABSENT, { ...BROKEN, code: "DEVICE_UNAVAILABLE" }, ...FILES];
const RUN_RULES: readonly Rule[] = [MEMORY, REFUSED, ABSENT, BROKEN];

/** OrtErrorCode of the header: no such file, no model, invalid protobuf, not implemented, invalid graph. */
const FILE_CODES: ReadonlyMap<number, ErrorCode> = new Map([
  [3, "MODEL_CORRUPT"],
  [4, "MODEL_CORRUPT"],
  [7, "MODEL_CORRUPT"],
  [9, "MODEL_UNSUPPORTED"],
  [10, "MODEL_UNSUPPORTED"],
]);

function classify(text: string, rules: readonly Rule[], otherwise: ErrorCode): ErrorCode {
  return rules.find((rule) => rule.text.test(text))?.code ?? otherwise;
}

/** A failure to open `path`. What is neither memory, device nor damage is a graph that this onnxruntime cannot run. */
export function openError(thrown: unknown, path: string, device: string): AppError {
  const text = plainText(thrown);
  const byNumber = thrown instanceof OrtFailure ? FILE_CODES.get(thrown.code) : undefined;
  const code = classify(text, OPEN_RULES, byNumber ?? "MODEL_UNSUPPORTED");
  return new AppError(code, `${path} cannot be opened on ${device}: ${text}${OPEN_ADVICE[code] ?? ""}`, { cause: thrown });
}

const OPEN_ADVICE: Partial<Record<ErrorCode, string>> = {
  MODEL_CORRUPT: " (fetch the file and its external data again; `dryapi models verify` compares the digests)",
  OUT_OF_MEMORY: " (the model does not fit beside what is loaded)",
};

/** A failure inside a run of `path`. */
export function runError(thrown: unknown, path: string, device: string): AppError {
  const text = plainText(thrown);
  return new AppError(classify(text, RUN_RULES, "PIPELINE_FAILED"), `${path} failed on ${device}: ${text}`, { cause: thrown });
}

/** One line, without the source positions and C++ signatures that onnxruntime puts before its words. */
function plainText(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text
    .replaceAll(/\/onnxruntime_src\/\S+ [^\n]*?\)(?: const)? (?=[A-Z[])/g, "")
    .replaceAll(/\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : /g, "")
    .replaceAll(/\s+/g, " ")
    .trim();
}
