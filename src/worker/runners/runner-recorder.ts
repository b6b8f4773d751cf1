import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import { AppError, type BlackBox } from "../../protocol/error.ts";
import type { RunnerLog } from "./runner-types.ts";

const TAIL_BYTES = 4096;

/** What is known of a runner while it lives, for the black box of whatever it dies of. */
export class RunnerRecorder {
  stage: string | undefined;
  step: number | undefined;
  rssBytes = 0;
  deviceBytes: number | null = null;
  readonly #subject: { readonly model?: string; readonly device: string };
  #tail = "";

  constructor(subject: { readonly model?: string; readonly device: string }) {
    this.#subject = subject;
  }

  get stderr(): string {
    return this.#tail;
  }

  /** Keeps the last 4 KiB and passes whole lines on to the log. Resolves when the stream has ended. */
  watch(stderr: Readable, log: RunnerLog, pid: number | undefined): Promise<void> {
    let line = "";
    stderr.setEncoding("utf8");
    stderr.on("data", (chunk: string) => {
      // onnxruntime colours its errors, terminal or not.
      const plain = stripVTControlCharacters(chunk);
      this.#tail = (this.#tail + plain).slice(-TAIL_BYTES);
      const lines = (line + plain).split("\n");
      line = (lines.pop() ?? "").slice(-TAIL_BYTES);
      for (const text of lines) if (text !== "") log.debug({ ...this.#subject, pid, stderr: text }, "runner said");
    });
    return new Promise((resolve) => {
      stderr.once("close", () => {
        if (line !== "") log.debug({ ...this.#subject, pid, stderr: line }, "runner said");
        resolve();
      });
    });
  }

  enter(stage: string): void {
    this.stage = stage;
    this.step = undefined;
  }

  blackBox(exitCode: number | null, signal: string | null): BlackBox {
    return {
      ...this.#subject,
      ...(signal === null ? {} : { signal }),
      ...(exitCode === null ? {} : { exitCode }),
      ...(this.stage === undefined ? {} : { stage: this.stage }),
      ...(this.step === undefined ? {} : { step: this.step }),
      ...(this.rssBytes === 0 ? {} : { rssBytes: this.rssBytes }),
      ...(this.#tail === "" ? {} : { stderr: this.#tail }),
    };
  }
}

const MISSING_LIBRARY = /(lib[\w.+-]+\.so[\w.]*): cannot open shared object file/g;
const NO_VULKAN = /(vkCreateInstance: Found no drivers!|Couldn't load Vulkan[^\n]*)/;

/**
 * onnxruntime's own message for a GPU that cannot be used says only "Failed to load shared library"; the cause is on stderr alone.
 * Puts it into the message, with what to install.
 */
export function explainDeviceError(error: AppError, stderr: string): AppError {
  if (error.code !== "DEVICE_UNAVAILABLE") return error;
  const missing = [...new Set(Array.from(stderr.matchAll(MISSING_LIBRARY), (match) => match[1] ?? ""))];
  const cause = missing.length > 0 ? missingLibraries(missing) : NO_VULKAN.exec(stderr)?.[1];
  if (cause === undefined || error.message.includes(cause)) return error;
  return new AppError(error.code, `${error.message}; ${cause}`, { cause: error, ...(error.blackBox && { blackBox: error.blackBox }) });
}

/** What to do about libraries that the loader did not find, with their names. */
export function missingLibraries(names: readonly string[]): string {
  const advice = [...new Set(names.map(adviceFor))];
  if (names.some((name) => /^lib(cu|nv)/.test(name) && name !== "libcuda.so.1"))
    advice.push("or set DRYAPI_CUDA_LIBS to the folders that hold them");
  return `${names.join(", ")} not found: ${advice.join("; ")}`;
}

/** Names of libraries whose own major version is the toolkit's; cuFFT's and cuRAND's run behind it. */
const TOOLKIT = /^lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)/;

function adviceFor(library: string): string {
  if (library.startsWith("libonnxruntime"))
    return "run `dryapi fetch-cuda`, or set DRYAPI_ORT_DIR to the folder that holds onnxruntime's CUDA provider";
  if (library === "libcuda.so.1") return "install the NVIDIA driver (in a container: run it with the NVIDIA runtime)";
  if (library.startsWith("libvulkan")) return "install a Vulkan loader and the GPU's Vulkan driver";
  if (library.startsWith("libcudnn")) return `install cuDNN ${/\.so\.(\d+)/.exec(library)?.[1] ?? ""}`.trim();
  const major = TOOLKIT.exec(library)?.[1];
  return major === undefined ? "install the CUDA runtime libraries" : `install the CUDA ${major} runtime libraries`;
}
