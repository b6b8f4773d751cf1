import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { AppError } from "../protocol/error.ts";
import { fakeSession } from "../../test/support/fake-session.ts";
import type { Tensor } from "../pipelines/backend.ts";
import { openBackend } from "./open-backend.ts";
import { assertRanOn, probeProviders } from "./probe-device.ts";

// Before the first session is opened, or onnxruntime phones home.
process.env["ORT_DISABLE_TELEMETRY"] = "1";
// Runners of other test files probe at the same time: what is left over is looked for in a folder of our own.
const own = await mkdtemp(join(tmpdir(), "probe-device-test-"));
process.env["TMPDIR"] = own;
after(() => rm(own, { recursive: true, force: true }));

const CPU = { kind: "cpu", index: 0, threads: 1 } as const;
const CUDA = { kind: "cuda", index: 1, threads: 1 } as const;

const refusal = (message: RegExp) => (error: AppError) => error.code === "DEVICE_UNAVAILABLE" && message.test(error.message);

describe("the probe", () => {
  it("proves from onnxruntime's profile that the CPU ran its nodes, and leaves no files", async () => {
    const providers = await probeProviders(CPU, openBackend);
    assert.deepEqual(Object.keys(providers), ["CPUExecutionProvider"]);
    assert.ok((providers["CPUExecutionProvider"] ?? 0) >= 1);
    assert.deepEqual(await readdir(own), []);
  });

  it("refuses a GPU whose nodes ran on the CPU in silence", async () => {
    // The backend ignores what it is asked for, as a provider that lacks every operator does.
    const silentlyCpu = ({ profileDir }: { readonly profileDir: string }) => openBackend({ device: CPU, profileDir });
    await assert.rejects(
      probeProviders(CUDA, silentlyCpu),
      refusal(/cuda:1 was asked for, but .* on CPUExecutionProvider instead of on CUDAExecutionProvider/),
    );
  });

  it("refuses a device that computes wrongly", async () => {
    const open = () => ({
      open: () => {
        const zeros: Tensor = { type: "float32", data: new Float32Array(64 * 64), dims: [64, 64] };
        return Promise.resolve(fakeSession({ inputs: [], outputs: [], run: () => ({ y: zeros }) }));
      },
      guard: () => undefined,
    });
    await assert.rejects(probeProviders(CPU, open), refusal(/wrong matrix product/));
  });

  it("blames the device for whatever its runtime throws", async () => {
    const open = () => ({
      open: () => Promise.reject(new Error("CUDA failure 35: driver too old")),
      guard: () => undefined,
    });
    await assert.rejects(probeProviders(CUDA, open), refusal(/cuda:1 cannot be used: CUDA failure 35/));
  });
});

describe("the verdict", () => {
  it("needs every node on the asked provider", () => {
    assert.doesNotThrow(() => assertRanOn(CUDA, { CUDAExecutionProvider: 2 }));
    assert.throws(() => assertRanOn(CUDA, { CUDAExecutionProvider: 1, CPUExecutionProvider: 1 }), refusal(/1 on CPUExecutionProvider/));
    assert.throws(() => assertRanOn(CUDA, {}), refusal(/nowhere/));
  });
});
