import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { it } from "node:test";
import { AppError } from "../../protocol/error.ts";
import { explainDeviceError, missingLibraries, RunnerRecorder } from "./runner-recorder.ts";

const unavailable = new AppError("DEVICE_UNAVAILABLE", "Failed to load shared library");
const quiet = { debug: () => undefined, warn: () => undefined };

it("the missing library on stderr becomes part of the message, with what to install", () => {
  const stderr =
    "E:onnxruntime ... /x/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file";
  const told = explainDeviceError(unavailable, stderr);
  assert.equal(told.code, "DEVICE_UNAVAILABLE");
  assert.match(
    told.message,
    /^Failed to load shared library; libcublasLt\.so\.13 not found: install the CUDA 13 runtime libraries; or set DRYAPI_CUDA_LIBS/,
  );
});

it("other errors keep their message, whatever is on stderr", () => {
  const other = new AppError("MODEL_CORRUPT", "bad file");
  assert.equal(explainDeviceError(other, "libcudnn.so.9: cannot open shared object file"), other);
  assert.equal(explainDeviceError(unavailable, "nothing of use"), unavailable);
});

it("each kind of library has its own advice, given once", () => {
  assert.equal(
    missingLibraries(["libcuda.so.1"]),
    "libcuda.so.1 not found: install the NVIDIA driver (in a container: run it with the NVIDIA runtime)",
  );
  assert.match(missingLibraries(["libvulkan.so.1"]), /Vulkan driver$/);
  assert.match(missingLibraries(["libcudnn.so.9"]), /install cuDNN 9; or set DRYAPI_CUDA_LIBS/);
  assert.equal(missingLibraries(["libcublas.so.13", "libcublasLt.so.13"]).match(/install the CUDA 13/g)?.length, 1);
});

it("the tail of stderr is the last 4 KiB, without colours; lines split over chunks reach the log whole", async () => {
  const recorder = new RunnerRecorder({ model: "m", device: "cpu:0" });
  const stderr = new PassThrough();
  const lines: unknown[] = [];
  const ended = recorder.watch(stderr, { ...quiet, debug: (fields) => lines.push((fields as { stderr: string }).stderr) }, 1);
  stderr.write(`${"x".repeat(5_000)}\n`);
  stderr.write("\u001B[1;31mfirst ");
  stderr.write("half\u001B[m\nlast line without an end");
  stderr.end();
  await ended;
  assert.deepEqual(lines.slice(1), ["first half", "last line without an end"]);
  assert.equal(recorder.stderr.length, 4_096);
  assert.ok(recorder.stderr.endsWith("first half\nlast line without an end"));
});

it("the black box holds what is known and nothing else", () => {
  const recorder = new RunnerRecorder({ model: "m", device: "cuda:0" });
  assert.deepEqual(recorder.blackBox(null, "SIGSEGV"), { model: "m", device: "cuda:0", signal: "SIGSEGV" });
  recorder.enter("denoise");
  recorder.step = 3;
  recorder.rssBytes = 1;
  assert.deepEqual(recorder.blackBox(1, null), { model: "m", device: "cuda:0", exitCode: 1, stage: "denoise", step: 3, rssBytes: 1 });
});
