import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Session, Traffic } from "../../src/pipelines/backend.ts";
import { FluxTransformer } from "../../src/pipelines/flux/transformer.ts";
import { TransformerRun } from "../../src/pipelines/flux/transformer-run.ts";
import { ropeTables } from "../../src/pipelines/ltx-video/rope.ts";
import { LATENT_CHANNELS, VideoTransformer } from "../../src/pipelines/ltx-video/video-transformer.ts";
import { MODELS, present } from "../support/flux-rig.ts";
import { openTestBackend } from "../support/test-device.ts";

const backend = openTestBackend({}, "c");
const sessions: Session[] = [];
after(() => Promise.all(sessions.map((session) => session.release())));

async function openTransformer(slug: string): Promise<Session> {
  const session = await backend.open(new URL(`${slug}/transformer/model.onnx`, MODELS).pathname);
  sessions.push(session);
  return session;
}

/** Bytes that the work moved. */
async function trafficOf(session: Session, work: () => Promise<unknown>): Promise<Traffic> {
  const { toDevice, toHost } = session.traffic;
  await work();
  return { toDevice: session.traffic.toDevice - toDevice, toHost: session.traffic.toHost - toHost };
}

const FLOAT = Float32Array.BYTES_PER_ELEMENT;
const graphOf = (session: Session) => ({ part: "transformer", session, names: { inputs: {}, outputs: {} } });
/** The declared size of an input's last axis. */
const widthOf = (session: Session, input: string): number => Number(session.inputs.find(({ name }) => name === input)?.dims.at(-1));

const TEXT_TOKENS = 32;

function fluxTexts(session: Session, count: number): ConstructorParameters<typeof TransformerRun>[2] {
  const width = widthOf(session, "encoder_hidden_states");
  return Array.from({ length: count }, (_, row) => ({
    sequence: new Float32Array(TEXT_TOKENS * width).fill(row / 10),
    sequenceShape: [TEXT_TOKENS, width],
    pooled: new Float32Array(widthOf(session, "pooled_projections")).fill(row),
  }));
}

const SHAPE = { channels: 16, height: 8, width: 8 };
const FLUX_ROW = SHAPE.channels * SHAPE.height * SHAPE.width;
const fluxStep = (rows: number): Traffic => ({ toDevice: rows * (FLUX_ROW + 1) * FLOAT, toHost: rows * FLUX_ROW * FLOAT });

test("Flux: a step moves latents and timestep in and the velocity out; texts and ids go once, and again when a row leaves", async () => {
  const session = await openTransformer("tiny-flux-dev");
  const texts = fluxTexts(session, 3);
  using run = new TransformerRun(new FluxTransformer(graphOf(session), SHAPE.channels * 4), SHAPE, texts, 3.5);
  const step = (rows: number) => trafficOf(session, () => run.step(new Float32Array(rows * FLUX_ROW).fill(0.5), 0.75));
  const fixed = (rows: number): number => {
    const { sequence, pooled } = present(texts[0]);
    const ids = (FLUX_ROW / 64 + TEXT_TOKENS) * 3 * BigInt64Array.BYTES_PER_ELEMENT;
    return rows * (sequence.byteLength + pooled.byteLength + FLOAT) + ids;
  };
  assert.deepEqual(await step(3), { toDevice: fixed(3) + fluxStep(3).toDevice, toHost: fluxStep(3).toHost });
  for (let index = 1; index < 4; index++) assert.deepEqual(await step(3), fluxStep(3));
  run.dropRow(1);
  assert.deepEqual(await step(2), { toDevice: fixed(2) + fluxStep(2).toDevice, toHost: fluxStep(2).toHost });
  assert.deepEqual(await step(2), fluxStep(2));
});

test("Flux with classifier-free guidance: both runs keep what is theirs, also when they take turns", async () => {
  const session = await openTransformer("tiny-flux-dev");
  const transformer = new FluxTransformer(graphOf(session), SHAPE.channels * 4);
  const [one, other] = fluxTexts(session, 2);
  const latents = new Float32Array(FLUX_ROW).fill(0.25);
  using conditioned = new TransformerRun(transformer, SHAPE, [present(one)], 1);
  using negative = new TransformerRun(transformer, SHAPE, [present(other)], 1);
  const both = async (): Promise<readonly number[][]> => [
    [...(await conditioned.step(latents, 0.5))],
    [...(await negative.step(latents, 0.5))],
  ];
  const first = await both();
  assert.notDeepEqual(first[0], first[1]);
  const { toDevice, toHost } = fluxStep(1);
  assert.deepEqual(await trafficOf(session, both), { toDevice: 2 * toDevice, toHost: 2 * toHost });
  assert.deepEqual(await both(), first);
});

test("LTX-Video: a step moves latents and timesteps in and the velocity out; texts, masks and rotary tables go once", async () => {
  const session = await openTransformer("tiny-ltx-video");
  const transformer = new VideoTransformer(graphOf(session));
  const shape = { channels: LATENT_CHANNELS, frames: 3, height: 2, width: 2 };
  const rope = ropeTables({ shape, fps: 24, placement: "condition", width: transformer.width });
  const width = widthOf(session, "encoder_hidden_states");
  const mask = new Uint8Array(TEXT_TOKENS).fill(1);
  for (const rows of [1, 2]) {
    const texts = Array.from({ length: rows }, (_, row) => ({ sequence: new Float32Array(TEXT_TOKENS * width).fill(row), width, mask }));
    const before = session.traffic.toDevice;
    using run = transformer.open({ texts, rope });
    const fixed = rows * (present(texts[0]).sequence.byteLength + TEXT_TOKENS * FLOAT) + rope.cos.byteLength + rope.sin.byteLength;
    assert.equal(session.traffic.toDevice - before, fixed);
    const latents = new Float32Array(rope.tokens * LATENT_CHANNELS).fill(0.5);
    const timesteps = new Float32Array(rope.tokens).fill(700);
    const step = () => trafficOf(session, () => run.step(latents, timesteps));
    const later = { toDevice: rows * (latents.byteLength + timesteps.byteLength), toHost: rows * latents.byteLength };
    for (let index = 0; index < 4; index++) assert.deepEqual(await step(), later);
  }
});
