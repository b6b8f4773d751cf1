/** Ids and limits that decide which token may come next. */
export interface TokenRules {
  /** End of text: all ids below are text. */
  readonly end: number;
  /** `<|notimestamps|>`; the id after it is the stamp of 0.00 s, each later one 0.02 s more. */
  readonly noTimestamps: number;
  /** Never chosen. */
  readonly suppressed: readonly number[];
  /** Not chosen as the first token. */
  readonly suppressedFirst: readonly number[];
  /** Latest stamp for the first token, in steps of 0.02 s; null = any. */
  readonly maxInitialStamp: number | null;
}

/**
 * Sets the logits of tokens that may not follow `tokens` (what was generated so far, without the prompt) to -Infinity. Stamps come in pairs
 * but for the first and the last, never go back, and win when they are together likelier than the best text token.
 * Source: OpenAI's ApplyTimestampRules (whisper/decoding.py), as in transformers' WhisperTimeStampLogitsProcessor.
 */
export function applyTimestampRules(logits: Float32Array, tokens: readonly number[], rules: TokenRules): void {
  const firstStamp = rules.noTimestamps + 1;
  for (const id of rules.suppressed) logits[id] = -Infinity;
  if (tokens.length === 0) for (const id of rules.suppressedFirst) logits[id] = -Infinity;
  logits[rules.noTimestamps] = -Infinity;
  const isStamp = (id: number | undefined): boolean => id !== undefined && id >= firstStamp;
  const afterStamp = isStamp(tokens.at(-1));
  const afterPair = afterStamp && (tokens.length < 2 || isStamp(tokens.at(-2)));
  if (afterPair) logits.fill(-Infinity, firstStamp);
  else if (afterStamp) logits.fill(-Infinity, 0, rules.end);
  const last = tokens.findLast(isStamp);
  // The second of a pair may equal the first; any other stamp must be later.
  if (last !== undefined) logits.fill(-Infinity, firstStamp, afterStamp && !afterPair ? last : last + 1);
  if (tokens.length === 0) {
    logits.fill(-Infinity, 0, firstStamp);
    if (rules.maxInitialStamp !== null) logits.fill(-Infinity, firstStamp + rules.maxInitialStamp + 1);
  }
  // Both are log-probabilities less the same constant, which cancels out.
  const stamps = logSumExp(logits.subarray(firstStamp));
  if (stamps > logits.subarray(0, firstStamp).reduce((best, value) => Math.max(best, value), -Infinity)) {
    logits.fill(-Infinity, 0, firstStamp);
  }
}

/** `log(sum(exp(values)))` without overflow. */
export function logSumExp(values: Float32Array): number {
  let largest = -Infinity;
  for (const value of values) if (value > largest) largest = value;
  if (largest === -Infinity) return -Infinity;
  let sum = 0;
  for (const value of values) sum += Math.exp(value - largest);
  return largest + Math.log(sum);
}
