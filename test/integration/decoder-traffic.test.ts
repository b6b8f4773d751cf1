import assert from "node:assert/strict";
import { test } from "node:test";
import type { Binding, Session, Traffic } from "../../src/pipelines/backend.ts";
import type { Decoding } from "../../src/pipelines/graph/decoding.ts";
import { MergedDecoder, type DecoderSizes } from "../../src/pipelines/graph/merged-decoder.ts";
import { MODELS } from "../support/flux-rig.ts";
import { openTestBackend } from "../support/test-device.ts";

const backend = openTestBackend({}, "c");

interface Case {
  readonly slug: string;
  readonly masked: boolean;
  /** `[rows, tokens]` of the encoder's output, and the rows of ids. */
  readonly hidden: readonly [number, number];
  readonly idRows: number;
}

const CASES: readonly Case[] = [
  { slug: "tiny-whisper", masked: false, hidden: [1, 1_500], idRows: 1 },
  { slug: "tiny-musicgen", masked: true, hidden: [2, 7], idRows: 8 },
];

/** As the graph declares them. */
function sizesOf({ inputs, outputs }: Session): DecoderSizes {
  const past = inputs.filter(({ name }) => name.endsWith(".decoder.key"));
  const [, heads, , headSize] = past[0]?.dims ?? [];
  const logits = outputs.find(({ name }) => name === "logits");
  return { layers: past.length, heads: Number(heads), headSize: Number(headSize), vocabulary: Number(logits?.dims.at(-1)) };
}

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

for (const { slug, masked, hidden, idRows } of CASES) {
  test(`${slug}: a later step moves ids in and logits out, however long the sequence is, and leaves nothing behind`, async () => {
    const native = await backend.open(new URL(`${slug}/onnx/decoder_model_merged.onnx`, MODELS).pathname);
    const { session, live } = counted(native);
    const sizes = sizesOf(native);
    const width = Number(native.inputs.find(({ name }) => name === "encoder_hidden_states")?.dims.at(-1));
    const dims = [...hidden, width];
    const data = Float32Array.from({ length: hidden[0] * hidden[1] * width }, (_, i) => Math.sin(i));
    const decoder = new MergedDecoder({ part: slug, session, names: { inputs: {}, outputs: {} } }, sizes, masked);
    try {
      using decoding = decoder.begin({ type: "float32", data, dims });
      const ids = Array.from({ length: idRows }, (_, row) => [row]);
      await decoding.step(ids);
      const later = { toDevice: idRows * 8, toHost: idRows * sizes.vocabulary * 4 };
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
  const native = await backend.open(new URL("tiny-whisper/onnx/decoder_model_merged.onnx", MODELS).pathname);
  const { session, live } = counted(native);
  const width = Number(native.inputs.find(({ name }) => name === "encoder_hidden_states")?.dims.at(-1));
  const hidden = { type: "float32", data: new Float32Array(1_500 * width), dims: [1, 1_500, width] } as const;
  const decoder = new MergedDecoder({ part: "decoder", session, names: { inputs: {}, outputs: {} } }, sizesOf(native), false);
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
