import { blendInto, lastFrames, type FrameBlock } from "./frame-block.ts";
import { FRAME_FACTOR } from "./video-latents.ts";

/** Sample frames that are decoded at once (and one more), and from one tile to the next; both multiples of 8. */
export interface Tiling {
  readonly size: number;
  readonly stride: number;
}

export interface Tile {
  /** Latent frames: the first, and how many. */
  readonly first: number;
  readonly count: number;
  /** Sample frames that count; a tile that is not the first loses its last one. */
  readonly frames: number;
  /** Sample frames from its start that go into the clip. */
  readonly keep: number;
}

/**
 * How a clip of so many latent frames is decoded, as AutoencoderKLLTXVideo does with `use_framewise_decoding`
 * (`_temporal_tiled_decode`): tiles that overlap, so that memory is bounded by two of them. A clip no longer than a tile is one.
 */
export function planTiles(latentFrames: number, { size, stride }: Tiling): readonly Tile[] {
  const total = (latentFrames - 1) * FRAME_FACTOR + 1;
  if (latentFrames <= size / FRAME_FACTOR) return [{ first: 0, count: latentFrames, frames: total, keep: total }];
  const tiles: Tile[] = [];
  let done = 0;
  for (let first = 0; first < latentFrames && done < total; first += stride / FRAME_FACTOR) {
    const count = Math.min(size / FRAME_FACTOR + 1, latentFrames - first);
    const frames = (count - 1) * FRAME_FACTOR + (first === 0 ? 1 : 0);
    const keep = Math.min(frames, first === 0 ? stride + 1 : stride, total - done);
    tiles.push({ first, count, frames, keep });
    done += keep;
  }
  return tiles;
}

/** A part of the clip that is ready: its first `keep` frames follow what came before. Valid until the next part is asked for. */
export interface ReadyFrames {
  readonly block: FrameBlock;
  readonly keep: number;
  /** Throws what the next tile has failed with by now: nobody needs these frames any more. */
  readonly throwIfFailed: () => void;
}

/**
 * Decodes tile after tile and fades each into the next. The next tile is decoded while the caller uses the frames of the one before: what is
 * held is two tiles, and what the fading needs. Whoever stops taking frames waits for the decode under way.
 */
export async function* decodeTiles(
  tiles: readonly Tile[],
  tiling: Tiling,
  decode: (tile: Tile, index: number) => Promise<FrameBlock>,
): AsyncGenerator<ReadyFrames, void, undefined> {
  const overlap = tiling.size - tiling.stride;
  const start = (index: number): Decoding | null => (index < tiles.length ? watched(decode(tiles[index]!, index)) : null);
  let before: FrameBlock | null = null;
  let decoding = start(0);
  try {
    for (const [index, tile] of tiles.entries()) {
      const block = await decoding!.block;
      const next = start(index + 1);
      decoding = next;
      if (before !== null) blendInto(block, before, Math.min(before.frames, tile.frames, overlap));
      before = next === null ? null : lastFrames(block, tile.frames, Math.min(tile.frames, overlap));
      yield { block, keep: tile.keep, throwIfFailed: () => next?.throwIfFailed() };
    }
  } finally {
    await decoding?.settled;
  }
}

/** A tile that is being decoded. Its failure is told to whoever asks. */
interface Decoding extends Pick<ReadyFrames, "throwIfFailed"> {
  readonly block: Promise<FrameBlock>;
  /** Never rejects. */
  readonly settled: Promise<void>;
}

function watched(block: Promise<FrameBlock>): Decoding {
  let failure: { readonly thrown: unknown } | null = null;
  const settled = block.then(
    () => undefined,
    (thrown: unknown) => {
      failure = { thrown };
    },
  );
  const throwIfFailed = (): void => {
    if (failure !== null) throw failure.thrown;
  };
  return { block, settled, throwIfFailed };
}
