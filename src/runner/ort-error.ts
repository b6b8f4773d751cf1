import { AppError, type ErrorCode } from "../protocol/error.ts";

/** Errors of onnxruntime-node are plain `Error`s without a code: only their text tells them apart (texts of 1.30, runtime.md 2, 5, 6). */
interface Rule {
  readonly code: ErrorCode;
  readonly text: RegExp;
}

/** At any time. Memory first: an allocation failure inside CUDA mentions CUDA as well. */
const DEVICE_RULES: readonly Rule[] = [
  {
    code: "OUT_OF_MEMORY",
    text: /failed to allocate memory|out of memory|bad_alloc|bad allocation|memoryallocation|ALLOC_FAILED|CL_MEM_OBJECT_ALLOCATION/i,
  },
  {
    code: "DEVICE_UNAVAILABLE",
    text: /failed to load shared library|failed to load library|get a webgpu adapter|no available backend|execution provider is not enabled|CUDA (failure|error)|CUDNN failure|CUBLAS failure|no kernel image|device (is )?lost|invalid device ordinal/i,
  },
];

const OPEN_RULES: readonly Rule[] = [
  {
    code: "MODEL_CORRUPT",
    text: /file doesn't exist|protobuf parsing failed|does not have a graph|external (data|initializer)|deserialize tensor/i,
  },
  {
    code: "MODEL_UNSUPPORTED",
    text: /could not find an implementation|not a registered function|no op registered|unsupported data type|unsupported model ir|opset|not implemented/i,
  },
];

function classify(text: string, rules: readonly Rule[], otherwise: ErrorCode): ErrorCode {
  return rules.find((rule) => rule.text.test(text))?.code ?? otherwise;
}

/** A failure to open `path`. What is neither memory, device nor damage is a graph that this onnxruntime cannot run. */
export function openError(thrown: unknown, path: string, device: string): AppError {
  const text = plainText(thrown);
  const code = classify(text, [...DEVICE_RULES, ...OPEN_RULES], "MODEL_UNSUPPORTED");
  return new AppError(code, `${path} cannot be opened on ${device}: ${text}${OPEN_ADVICE[code] ?? ""}`, { cause: thrown });
}

const OPEN_ADVICE: Partial<Record<ErrorCode, string>> = {
  MODEL_CORRUPT: " (fetch the file and its external data again; `dryapi models verify` compares the digests)",
  OUT_OF_MEMORY: " (the model does not fit beside what is loaded)",
};

/** A failure inside a run of `path`. */
export function runError(thrown: unknown, path: string, device: string): AppError {
  const text = plainText(thrown);
  return new AppError(classify(text, DEVICE_RULES, "PIPELINE_FAILED"), `${path} failed on ${device}: ${text}`, { cause: thrown });
}

/** One line, without the source positions and C++ signatures that onnxruntime puts before its words. */
function plainText(thrown: unknown): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return text
    .replaceAll(/\/onnxruntime_src\/\S+ [^\n]*?\)(?: const)? (?=[A-Z])/g, "")
    .replaceAll(/\s+/g, " ")
    .trim();
}
