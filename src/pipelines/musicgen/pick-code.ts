/** Numbers from 0 (included) to 1 (not included). */
export type Uniform = () => number;

export interface Sampling {
  /** The most probable codes that are drawn from; 1 always takes the best. */
  readonly topK: number;
  /** Above 1 is bolder, below 1 safer. */
  readonly temperature: number;
}

/** Guidance without a classifier: away from what comes without the text. Source: Ho and Salimans 2022. */
export function guided(withText: Float32Array, without: Float32Array, scale: number): Float32Array {
  return withText.map((logit, index) => (without[index] ?? 0) + (logit - (without[index] ?? 0)) * scale);
}

/** Draws a code from its logits; ties at the edge of `topK` all take part. */
export function pickCode(logits: Float32Array, { topK, temperature }: Sampling, uniform: Uniform): number {
  const best = logits.indexOf(logits.reduce((most, logit) => Math.max(most, logit), -Infinity));
  if (topK <= 1) return best;
  const least = logits.length <= topK ? -Infinity : (logits.toSorted().at(-topK) ?? -Infinity);
  const highest = logits[best] ?? 0;
  const weights = logits.map((logit) => (logit >= least ? Math.exp((logit - highest) / temperature) : 0));
  let left = uniform() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [code, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return code;
  }
  return best;
}
