/** Audio for the Whisper goldens by integer arithmetic alone: the same samples as scripts/export/whisper_audio.py makes. */

/** Marsaglia's xorshift32: numbers below `limit`. */
function draws(seed: number): (limit: number) => number {
  let state = seed;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % limit;
  };
}

/** 16-bit samples at 16 kHz: syllables of two sliding saw waves and hiss with pauses between them, no louder than 12 000. */
export function babble(seed: number, samples: number): Int16Array {
  const below = draws(seed);
  const out = new Int16Array(samples);
  for (let at = 0; at < samples;) {
    at += below(2_400);
    const length = 1_600 + below(6_400);
    const [low, lowSlide] = [400 + below(1_200), below(3) - 1];
    const [high, highSlide] = [2_000 + below(12_000), below(9) - 4];
    const [level, hiss] = [2_000 + below(6_000), below(1_000)];
    if (below(8) === 0) at += 4_000 + below(16_000);
    for (let index = 0; index < length && at + index < samples; index++) {
      const slide = Math.floor((index * index) / 256);
      const lowWave = ((index * low + slide * lowSlide) & 0xffff) - 32_768;
      const highWave = ((index * high + slide * highSlide) & 0xffff) - 32_768;
      const envelope = Math.min(index, length - index, 800);
      const wave = Math.floor(((lowWave * 2 + highWave) * level) / 98_304) + below(2 * hiss + 1) - hiss;
      out[at + index] = Math.floor((wave * envelope) / 800);
    }
    at += length;
  }
  return out;
}

/** The samples in pieces, as a pipe brings them. */
export async function* inPieces(samples: Int16Array, size: number = 32_768): AsyncGenerator<Int16Array> {
  for (let start = 0; start < samples.length; start += size) yield samples.subarray(start, start + size);
}

/** The samples as a WAV file: 16 bits, mono, 16 kHz. */
export function wavOf(samples: Int16Array): Buffer {
  const header = Buffer.alloc(44);
  header.write("RIFF", 0);
  header.writeUInt32LE(36 + samples.byteLength, 4);
  header.write("WAVEfmt ", 8);
  header.writeUInt32LE(16, 16);
  header.writeUInt16LE(1, 20);
  header.writeUInt16LE(1, 22);
  header.writeUInt32LE(16_000, 24);
  header.writeUInt32LE(32_000, 28);
  header.writeUInt16LE(2, 32);
  header.writeUInt16LE(16, 34);
  header.write("data", 36);
  header.writeUInt32LE(samples.byteLength, 40);
  return Buffer.concat([header, Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)]);
}
