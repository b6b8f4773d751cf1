import { access, constants } from "node:fs/promises";
import { basename } from "node:path";
import { AppError } from "../../protocol/error.ts";
import { openFfmpeg } from "./ffmpeg.ts";

export interface DecodeAudioOptions {
  /** A local file. */
  readonly path: string;
  /** Samples a second that come out. */
  readonly sampleRate: number;
  /** Longer sound is refused where it begins to be too long. */
  readonly maxSeconds: number;
  /** Of the request, which it came in. */
  readonly field?: string;
  readonly signal?: AbortSignal;
}

/** Containers of what clients send. Playlists and the like, which name other files, are not among them. */
const FORMATS = "wav,w64,mp3,flac,ogg,aac,mov,matroska,avi,aiff,caf,amr,asf,mpeg,mpegts";
const BYTES_PER_SAMPLE = 2;

/**
 * The first sound track of a sound or film file as mono 16-bit samples, in pieces as ffmpeg makes them: memory does not grow with its length.
 * @throws AppError NO_SOUND_TRACK, MEDIA_UNREADABLE, INPUT_TOO_LARGE for one that is too long, INTERNAL where it is not there
 */
export async function* decodeAudio({ path, sampleRate, maxSeconds, field, signal }: DecodeAudioOptions): AsyncGenerator<Int16Array> {
  const name = basename(path);
  const about = field === undefined ? {} : { field };
  await requireReadable(path);
  const input = ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS, "-i", path];
  const output = ["-map", "0:a:0", "-ac", "1", "-ar", String(sampleRate), "-f", "s16le", "pipe:1"];
  const what = `decoding ${name}`;
  await using ffmpeg = openFfmpeg({
    what,
    args: [...input, ...output],
    failure: "MEDIA_UNREADABLE",
    ...(signal !== undefined && { signal }),
  });
  let samples = 0;
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of ffmpeg.stdout as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    const count = Math.floor(bytes.length / BYTES_PER_SAMPLE);
    rest = bytes.subarray(count * BYTES_PER_SAMPLE);
    samples += count;
    if (samples > maxSeconds * sampleRate)
      throw new AppError("INPUT_TOO_LARGE", `${name} is longer than the ${maxSeconds} seconds that this model takes`, {
        ...about,
        detail: `It is longer than the ${maxSeconds} seconds that this model takes.`,
      });
    if (count > 0) yield samplesOf(bytes, count);
  }
  try {
    await ffmpeg.finish();
  } catch (thrown) {
    if (!(thrown instanceof AppError) || thrown.code !== "MEDIA_UNREADABLE") throw thrown;
    if (!/matches no streams/.test(thrown.message)) throw new AppError(thrown.code, thrown.message, { ...about, cause: thrown });
    throw new AppError("NO_SOUND_TRACK", `${name} has no sound track`, { ...about, detail: "It has no sound track.", cause: thrown });
  }
  if (samples > 0) return;
  const detail = "Its sound track is empty.";
  throw new AppError("NO_SOUND_TRACK", `${name} has a sound track without a single sample`, { ...about, detail });
}

/** A file that is not there is our fault, and not its sender's. */
async function requireReadable(path: string): Promise<void> {
  await access(path, constants.R_OK).catch((cause: unknown) => {
    throw new AppError("INTERNAL", `${basename(path)} cannot be opened: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    });
  });
}

/** A copy, since the bytes may lie at an odd address. */
function samplesOf(bytes: Buffer, count: number): Int16Array {
  const samples = new Int16Array(count);
  Buffer.from(samples.buffer).set(bytes.subarray(0, count * BYTES_PER_SAMPLE));
  return samples;
}
