import assert from "node:assert/strict";
import { test } from "node:test";
import type { Binding, Session, Traffic } from "../../src/pipelines/backend.ts";
import type { Decoding } from "../../src/pipelines/graph/decoding.ts";
import { openTestBackend } from "../support/test-device.ts";
import { decoderPath, sizesOf, TINY_DECODERS, tinyDecoder } from "../support/tiny-decoder.ts";

const backend = openTestBackend({}, "c");

/** The same session, whose bindings count the device tensors that they gave and that are not released. */
function counted(session: Session): { readonly session: Session; readonly live: () => number } {
  let live = 0;
  const bind = (): Binding => {
    const binding = session.bind();
    return {
      input: (name, value) => binding.input(name, value),
      output: (name, target) => binding.output(name, target),
      [Symbol.dispose]: () => binding[Symbol.dispose](),
      async run() {
        const results = await binding.run();
        for (const tensor of Object.values(results.device)) {
          live += 1;
          const release = tensor[Symbol.dispose].bind(tensor);
          tensor[Symbol.dispose] = () => {
            live -= 1;
            release();
          };
        }
        return results;
      },
    };
  };
  return { session: { ...session, inputs: session.inputs, outputs: session.outputs, bind }, live: () => live };
}

for (const tiny of TINY_DECODERS) {
  test(`${tiny.slug}: a later step moves ids in and logits out, however long the sequence is, and leaves nothing behind`, async () => {
    const native = await backend.open(decoderPath(tiny.slug));
    const { session, live } = counted(native);
    const { decoder, hidden } = tinyDecoder(session, tiny);
    try {
      using decoding = decoder.begin(hidden);
      const ids = Array.from({ length: tiny.idRows }, (_, row) => [row]);
      await decoding.step(ids);
      const later = { toDevice: tiny.idRows * 8, toHost: tiny.idRows * sizesOf(native).vocabulary * 4 };
      // The first of them moves to the other branch of the graph.
      for (let step = 0; step < 6; step++) {
        assert.deepEqual(await trafficOf(native, decoding, ids), later);
        assert.equal(live(), 0);
      }
      await assert.rejects(decoding.step([[1, 2]]), TypeError);
      assert.equal(live(), 0);
    } finally {
      await native.release();
    }
  });
}

async function trafficOf(session: Session, decoding: Decoding, ids: readonly (readonly number[])[]): Promise<Traffic> {
  const { toDevice, toHost } = session.traffic;
  await decoding.step(ids);
  return { toDevice: session.traffic.toDevice - toDevice, toHost: session.traffic.toHost - toHost };
}

test("a run that is ended in the middle of a sequence leaves no device tensor, and the decoder can begin anew", async () => {
  const [whisper] = TINY_DECODERS;
  assert.ok(whisper !== undefined);
  const native = await backend.open(decoderPath(whisper.slug));
  const { session, live } = counted(native);
  const { decoder, hidden } = tinyDecoder(session, whisper);
  try {
    const stop = new AbortController();
    {
      using decoding = decoder.begin(hidden);
      await decoding.step([[1]]);
      stop.abort();
      backend.guard(stop.signal);
      await assert.rejects(decoding.step([[2]]), { code: "CANCELLED" });
    }
    backend.guard(null);
    assert.equal(live(), 0);
    using again = decoder.begin(hidden);
    const first = (await again.step([[1]])).slice();
    using other = decoder.begin(hidden);
    assert.deepEqual((await other.step([[1]])).slice(), first);
  } finally {
    backend.guard(null);
    await native.release();
  }
});
