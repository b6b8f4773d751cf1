/** That keys and values stay on the device, by what onnxruntime's own profiler says of copies between the device and the host. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openTestBackend } from "../support/test-device.ts";
import { decoderPath, sizesOf, TINY_DECODERS, tinyDecoder, type TinyDecoder } from "../support/tiny-decoder.ts";
import { report } from "./report.ts";

const [FEW, MANY] = [4, 20];

interface ProfileEvent {
  readonly cat?: string;
  readonly name?: string;
  readonly args?: { readonly op_name?: string; readonly output_size?: string };
}

interface Profiled {
  /** Runs that the profiler saw. */
  readonly runs: number;
  /** Nodes that copy between device and host, and the bytes that they gave. */
  readonly copies: number;
  readonly copied: number;
  readonly traffic: { readonly toDevice: number; readonly toHost: number };
}

async function decode(tiny: TinyDecoder, steps: number): Promise<Profiled & { readonly cacheBytes: number }> {
  const dir = await mkdtemp(join(tmpdir(), "decoder-profile-"));
  try {
    const session = await openTestBackend({ profileDir: dir }, "c").open(decoderPath(tiny.slug));
    const { decoder, hidden } = tinyDecoder(session, tiny);
    {
      using decoding = decoder.begin(hidden);
      const ids = Array.from({ length: tiny.idRows }, (_, row) => [row]);
      for (let step = 0; step < steps; step++) await decoding.step(ids);
    }
    const { toDevice, toHost } = session.traffic;
    const { layers, heads, headSize } = sizesOf(session);
    await session.release();
    const name = (await readdir(dir)).find((file) => file.endsWith(".json")) ?? "";
    const events = JSON.parse(await readFile(join(dir, name), "utf8")) as readonly ProfileEvent[];
    const copies = events.filter(({ cat, args }) => cat === "Node" && args?.op_name?.startsWith("Memcpy") === true);
    return {
      runs: events.filter((event) => event.name === "model_run").length,
      copies: copies.length,
      copied: copies.reduce((sum, { args }) => sum + Number(args?.output_size ?? 0), 0),
      traffic: { toDevice, toHost },
      // Keys and values of the encoder's tokens and of the steps so far, as a host that held them would send them each step.
      cacheBytes: layers * 2 * heads * headSize * 4 * (tiny.hidden[0] * tiny.hidden[1] + tiny.idRows * steps),
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

for (const tiny of TINY_DECODERS) {
  test(`${tiny.slug}: what a step copies does not grow with the sequence, and is less than the cache`, async () => {
    const few = await decode(tiny, FEW);
    const many = await decode(tiny, MANY);
    assert.deepEqual([few.runs, many.runs], [FEW, MANY]);
    const aStep = (many.copied - few.copied) / (MANY - FEW);
    const crossed = (many.traffic.toDevice + many.traffic.toHost - few.traffic.toDevice - few.traffic.toHost) / (MANY - FEW);
    report(`decoder-${tiny.slug}`, { few, many, copiedBytesAStep: aStep, crossedBytesAStep: crossed });
    assert.ok(aStep < many.cacheBytes / 10, `${aStep} bytes are copied by nodes in a step; the cache has ${many.cacheBytes}`);
    assert.ok(crossed < many.cacheBytes / 10, `${crossed} bytes cross in a step; the cache has ${many.cacheBytes}`);
  });
}
