/** One utterance. */
export interface Line {
  /** Seconds. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export interface Transcript {
  /** Code of the language, null when nobody spoke. */
  readonly language: string | null;
  /** Of the audio, seconds. */
  readonly duration: number;
  readonly lines: readonly Line[];
}

/** With stamps a line for each utterance, `[hh:mm:ss.mmm --> hh:mm:ss.mmm] text`; else one text. Empty when nobody spoke. */
export function transcriptText({ lines }: Transcript, withStamps: boolean): string {
  if (!withStamps) return lines.map(({ text }) => text.trim()).join(" ");
  return lines.map(({ start, end, text }) => `[${stamp(start)} --> ${stamp(end)}] ${text.trim()}`).join("\n");
}

/** The same for programs. */
export function transcriptJson(transcript: Transcript): string {
  const { language, duration, lines } = transcript;
  const rounded = (seconds: number): number => Number(seconds.toFixed(3));
  const segments = lines.map(({ start, end, text }) => ({ start: rounded(start), end: rounded(end), text: text.trim() }));
  return JSON.stringify({ language, duration: rounded(duration), text: transcriptText(transcript, false), segments });
}

function stamp(seconds: number): string {
  const ms = Math.round(seconds * 1_000);
  const two = (value: number): string => String(Math.floor(value)).padStart(2, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1_000) % 60)}.${String(ms % 1_000).padStart(3, "0")}`;
}
