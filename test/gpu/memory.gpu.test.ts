/** The device's memory: flat over opens, given back, bounded by the option, and told when it runs out. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { AppError } from "../../src/protocol/error.ts";
import { loadShipped } from "../support/pipeline-rig.ts";
import { openTestBackend, TEST_DEVICE, TEST_DEVICE_ID } from "../support/test-device.ts";
import { deviceBytes, report } from "./report.ts";

const MIB = 2 ** 20;
const EXPAND = join(import.meta.dirname, "..", "fixtures", "ort", "expand.onnx");
const SLUGS = ["tiny-flux-dev", "tiny-ltx-video", "tiny-whisper", "tiny-musicgen", "tiny-vits", "tiny-kokoro"];

test("a family that is loaded, run and closed thirty times leaves the device as it was", async () => {
  const rounds = async (slug: string, count: number): Promise<void> => {
    for (let index = 0; index < count; index++) {
      const { pipeline } = await loadShipped(slug);
      await pipeline.probe();
      await pipeline.close();
    }
  };
  // The libraries, their kernels and the allocator's blocks stay.
  for (const slug of SLUGS) await rounds(slug, 10);
  const found: Record<string, unknown> = {};
  for (const slug of SLUGS) {
    const before = await deviceBytes();
    await rounds(slug, 30);
    const grown = (await deviceBytes()) - before;
    found[slug] = { before, grown };
    // A model that is not released is 1 to 20 MiB here, thirty of them 30 MiB and more.
    assert.ok(grown < 24 * MIB, `${slug}: ${grown} bytes more are in use on ${TEST_DEVICE_ID}`);
  }
  report("memory-rounds", found);
});

test("what does not fit is OUT_OF_MEMORY, and what fits runs afterwards in the same session", async () => {
  const limit = 256 * MIB;
  const limited = TEST_DEVICE.kind === "cuda";
  const session = await openTestBackend(limited ? { runtime: () => ({ cuda: { gpu_mem_limit: limit } }) } : {}, "c").open(EXPAND);
  const ask = (elements: bigint) =>
    session.run({
      one: { type: "float32", data: Float32Array.of(3), dims: [1] },
      shape: { type: "int64", data: BigInt64Array.of(elements), dims: [1] },
    });
  // 1 GiB under a limit of 256 MiB; 4 TB where there is no limit but the machine.
  const tooMuch = limited ? 2n ** 28n : 10n ** 12n;
  for (let index = 0; index < 3; index++) {
    await assert.rejects(ask(tooMuch), (thrown) => thrown instanceof AppError && thrown.code === "OUT_OF_MEMORY");
    const { y } = await ask(1_000n);
    assert.equal(y?.data[999], 3);
  }
  await session.release();
});
