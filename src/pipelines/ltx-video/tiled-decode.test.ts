import assert from "node:assert/strict";
import { setImmediate as turn } from "node:timers/promises";
import { test } from "node:test";
import type { FrameBlock } from "./frame-block.ts";
import { decodeTiles, planTiles, type Tile } from "./tiled-decode.ts";

const TILING = { size: 16, stride: 8 };
/** Four tiles. */
const TILES = planTiles(5, TILING);

/** A decoder whose tiles are done when they are told to; frames of tile n hold n. */
class GatedDecoder {
  readonly started: number[] = [];
  readonly #gates = TILES.map(() => Promise.withResolvers<void>());
  #running = 0;

  get running(): number {
    return this.#running;
  }

  finish(index: number): void {
    this.#gates[index]!.resolve();
  }

  fail(index: number, thrown: Error): void {
    this.#gates[index]!.reject(thrown);
  }

  readonly decode = async (tile: Tile): Promise<FrameBlock> => {
    const index = TILES.indexOf(tile);
    this.started.push(index);
    this.#running += 1;
    try {
      await this.#gates[index]!.promise;
    } finally {
      this.#running -= 1;
    }
    const frames = (tile.count - 1) * 8 + 1;
    return { data: new Float32Array(3 * frames).fill(index), frames, height: 1, width: 1 };
  };
}

/** Lets everything run that can. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await turn();
}

test("the next tile is decoded while the frames of the one before are used, and no further one", async () => {
  const decoder = new GatedDecoder();
  const ready = decodeTiles(TILES, TILING, decoder.decode);
  const first = ready.next();
  await settle();
  assert.deepEqual(decoder.started, [0]);
  decoder.finish(0);
  assert.equal((await first).value?.keep, TILES[0]?.keep);
  // The caller has the first tile's frames, and has not asked for more.
  await settle();
  assert.deepEqual([decoder.started, decoder.running], [[0, 1], 1]);
  decoder.finish(1);
  await settle();
  assert.deepEqual([decoder.started, decoder.running], [[0, 1], 0]);
  await ready.next();
  assert.deepEqual(decoder.started, [0, 1, 2]);
  for (const index of [2, 3]) decoder.finish(index);
  const rest: number[] = [];
  for await (const { keep } of ready) rest.push(keep);
  assert.deepEqual(
    rest,
    TILES.slice(2).map(({ keep }) => keep),
  );
  assert.deepEqual(decoder.started, [0, 1, 2, 3]);
});

test("a tile fades into the next as it was decoded, whichever is done first", async () => {
  const blended = async (inOrder: boolean): Promise<number[]> => {
    const decoder = new GatedDecoder();
    if (!inOrder) for (const index of TILES.keys()) decoder.finish(index);
    const values: number[] = [];
    const ready = decodeTiles(TILES, TILING, decoder.decode);
    for (const index of TILES.keys()) {
      if (inOrder) decoder.finish(index);
      const { value } = await ready.next();
      assert.ok(value !== undefined);
      values.push(...value.block.data.subarray(0, value.keep));
    }
    return values;
  };
  const values = await blended(true);
  assert.deepEqual(await blended(false), values);
  // The fade from 0 to 1: diffusers' blend_t over the overlap of 8.
  assert.deepEqual(values.slice(TILES[0]!.keep, TILES[0]!.keep + 8), [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875]);
});

test("a decode that fails is told while the frames before are used, and ends the clip", async () => {
  const decoder = new GatedDecoder();
  const ready = decodeTiles(TILES, TILING, decoder.decode);
  decoder.finish(0);
  const { value } = await ready.next();
  assert.ok(value !== undefined);
  value.throwIfFailed();
  const failure = new Error("the device is lost");
  decoder.fail(1, failure);
  await settle();
  assert.throws(value.throwIfFailed, failure);
  await assert.rejects(ready.next(), failure);
  assert.deepEqual([decoder.started, decoder.running], [[0, 1], 0]);
});

for (const ending of ["is done", "fails"] as const) {
  test(`who stops taking frames waits for the decode under way, which ${ending}`, async () => {
    const decoder = new GatedDecoder();
    decoder.finish(0);
    const stopped = new Error("the disk is full");
    let ended = false;
    const taking = (async () => {
      for await (const _ of decodeTiles(TILES, TILING, decoder.decode)) throw stopped;
    })().finally(() => {
      ended = true;
    });
    const rejected = assert.rejects(taking, stopped);
    await settle();
    assert.deepEqual([decoder.started, decoder.running, ended], [[0, 1], 1, false]);
    if (ending === "fails") decoder.fail(1, new Error("ended as well"));
    else decoder.finish(1);
    await rejected;
    assert.deepEqual([decoder.started, decoder.running], [[0, 1], 0]);
  });
}
