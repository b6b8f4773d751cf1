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

/**
 * Draws a code from its logits as `torch.multinomial(softmax(logits), 1)` does: the largest quotient of probability and exponential number
 * wins. Ties at the edge of `topK` all take part. `exponential` has a number for every code, whether it takes part or not.
 */
export function pickCode(logits: Float32Array, { topK, temperature }: Sampling, exponential: Float32Array): number {
  if (topK <= 1) return largest(logits);
  const scaled = logits.map((logit) => logit / temperature);
  const least = scaled.length <= topK ? -Infinity : (scaled.toSorted().at(-topK) ?? -Infinity);
  const highest = scaled.reduce((most, logit) => Math.max(most, logit), -Infinity);
  const weights = scaled.map((logit) => (logit >= least ? Math.exp(logit - highest) : 0));
  const total = Math.fround(weights.reduce((sum, weight) => sum + weight, 0));
  return largest(weights.map((weight, code) => Math.fround(weight / total) / (exponential[code] ?? 1)));
}

function largest(values: Float32Array): number {
  let best = 0;
  for (let index = 1; index < values.length; index++) if ((values[index] ?? NaN) > (values[best] ?? NaN)) best = index;
  return best;
}
