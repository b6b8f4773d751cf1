/**
 * MusicGen's delay pattern: codebook k is k steps late, so that each step makes one code per codebook. A clip of `frames` frames takes
 * `frames + books - 1` steps; where a codebook has not begun yet, or is through, the padding token stands.
 * Source: Copet et al., "Simple and Controllable Music Generation" (2023), section 2.1; transformers modeling_musicgen.py.
 */
export interface DelayPattern {
  readonly frames: number;
  readonly books: number;
}

export function stepsOf({ frames, books }: DelayPattern): number {
  return frames + books - 1;
}

/** Whether codebook `book` has a code of its own at `step` (from 0). */
export function isOwn({ frames }: DelayPattern, book: number, step: number): boolean {
  return step >= book && step < frames + book;
}

/** Rows of codes by step, `[steps][books]`, as rows by codebook without the delays, `[books][frames]`. */
export function undelayed(pattern: DelayPattern, steps: readonly (readonly number[])[]): readonly (readonly number[])[] {
  return Array.from({ length: pattern.books }, (_, book) => steps.slice(book, book + pattern.frames).map((codes) => codes[book] ?? 0));
}
