/** Steps of a stamp: 0.02 s. */
export const STAMP_SECONDS = 0.02;
/** Feature frames a stamp: the encoder halves their number. */
const FRAMES_PER_STAMP = 2;

export interface Segment {
  /** Seconds from the start of the audio. */
  readonly start: number;
  readonly end: number;
  /** With the stamps. */
  readonly tokens: readonly number[];
}

export interface SplitWindow {
  readonly segments: readonly Segment[];
  /** Frames from this window's start to the next one's. */
  readonly advance: number;
}

export interface WindowTokens {
  /** Generated tokens, without the end. */
  readonly tokens: readonly number[];
  /** Id of the stamp of 0.00 s. */
  readonly firstStamp: number;
  /** Where the window begins in the audio, frames of 10 ms. */
  readonly startFrame: number;
  /** Frames of audio in it, at most 3000. */
  readonly frames: number;
}

/**
 * Cuts a window's tokens at its pairs of stamps and says where to go on: at the last pair, since what follows it was cut off by the end of the
 * window; behind the window when it ends in a single stamp or has no pair.
 * Source: the seek loop of OpenAI's transcribe.py, as in transformers' `_retrieve_segment`.
 */
export function splitWindow({ tokens, firstStamp, startFrame, frames }: WindowTokens): SplitWindow {
  const offset = (startFrame / FRAMES_PER_STAMP) * STAMP_SECONDS;
  const isStamp = (id: number | undefined): boolean => id !== undefined && id >= firstStamp;
  const at = (id: number | undefined): number => offset + ((id ?? firstStamp) - firstStamp) * STAMP_SECONDS;
  const cuts = tokens.flatMap((id, i) => (i > 0 && isStamp(id) && isStamp(tokens[i - 1]) ? [i] : []));
  const singleEnd = isStamp(tokens.at(-1)) && !isStamp(tokens.at(-2)) && tokens.length > 1;
  if (cuts.length === 0) {
    const last = tokens.findLast(isStamp);
    const end = last === undefined || last === firstStamp ? offset + (frames / FRAMES_PER_STAMP) * STAMP_SECONDS : at(last);
    return { segments: [{ start: offset, end, tokens }], advance: frames };
  }
  const ends = singleEnd ? [...cuts, tokens.length] : cuts;
  const segments = ends.map((cut, i): Segment => {
    const part = tokens.slice(ends[i - 1] ?? 0, cut);
    return { start: at(part[0]), end: at(part.at(-1)), tokens: part };
  });
  if (singleEnd) return { segments, advance: frames };
  const last = tokens[cuts.at(-1)! - 1]!;
  // A pair at 0.00 s would go on where it began, for ever.
  return { segments, advance: (last - firstStamp) * FRAMES_PER_STAMP || frames };
}
