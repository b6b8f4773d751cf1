/** One triangular filter: `weights` for the spectrum's bins from `first` on. */
export interface MelFilter {
  readonly first: number;
  readonly weights: Float64Array;
}

/** Slaney's scale is linear up to here, logarithmic above. */
const BREAK_HZ = 1_000;
const BREAK_MEL = 15;
const LOG_STEP = 27 / Math.log(6.4);

/**
 * Filters of Slaney's Auditory Toolbox with area 1, as librosa's `filters.mel` and transformers' `mel_filter_bank` make them and OpenAI's
 * mel_filters.npz holds them: `count` triangles from 0 Hz to half the sampling rate over `bins` frequencies, equally far apart in mel.
 */
export function melFilters(options: { readonly count: number; readonly bins: number; readonly sampleRate: number }): readonly MelFilter[] {
  const { count, bins, sampleRate } = options;
  const highest = toMel(sampleRate / 2);
  const edges = Array.from({ length: count + 2 }, (_, i) => toHz((highest * i) / (count + 1)));
  return Array.from({ length: count }, (_, i) => {
    const [low, middle, high] = [edges[i]!, edges[i + 1]!, edges[i + 2]!];
    const weightAt = (bin: number): number => {
      const hz = (bin * sampleRate) / 2 / (bins - 1);
      const slope = Math.min((hz - low) / (middle - low), (high - hz) / (high - middle));
      return (Math.max(0, slope) * 2) / (high - low);
    };
    const all = Array.from({ length: bins }, (_, bin) => weightAt(bin));
    const first = Math.max(
      0,
      all.findIndex((weight) => weight > 0),
    );
    return { first, weights: Float64Array.from(all.slice(first, all.findLastIndex((weight) => weight > 0) + 1)) };
  });
}

function toMel(hz: number): number {
  return hz < BREAK_HZ ? (3 * hz) / 200 : BREAK_MEL + Math.log(hz / BREAK_HZ) * LOG_STEP;
}

function toHz(mel: number): number {
  return mel < BREAK_MEL ? (200 * mel) / 3 : BREAK_HZ * Math.exp((mel - BREAK_MEL) / LOG_STEP);
}
