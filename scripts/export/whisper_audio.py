"""Audio for the Whisper goldens, made by integer arithmetic alone: test/support/whisper-audio.ts makes the same samples."""

import numpy as np

RATE = 16_000
MASK = 0xFFFFFFFF


class Draw:
    """Marsaglia's xorshift32."""

    def __init__(self, seed: int):
        self.state = seed

    def below(self, limit: int) -> int:
        state = self.state
        state ^= (state << 13) & MASK
        state ^= state >> 17
        state ^= (state << 5) & MASK
        self.state = state
        return state % limit


def babble(seed: int, samples: int) -> np.ndarray:
    """16 bit samples at 16 kHz: syllables of two sliding saw waves and hiss with pauses between them, no louder than 12 000."""
    draw = Draw(seed)
    out = np.zeros(samples, dtype=np.int16)
    at = 0
    while at < samples:
        at += draw.below(2_400)
        length = 1_600 + draw.below(6_400)
        low, low_slide = 400 + draw.below(1_200), draw.below(3) - 1
        high, high_slide = 2_000 + draw.below(12_000), draw.below(9) - 4
        level, hiss = 2_000 + draw.below(6_000), draw.below(1_000)
        if draw.below(8) == 0:
            at += 4_000 + draw.below(16_000)
        for index in range(length):
            if at + index >= samples:
                break
            low_wave = ((index * low + (index * index >> 8) * low_slide) & 0xFFFF) - 32_768
            high_wave = ((index * high + (index * index >> 8) * high_slide) & 0xFFFF) - 32_768
            envelope = min(index, length - index, 800)
            wave = (low_wave * 2 + high_wave) * level // 98_304 + draw.below(2 * hiss + 1) - hiss
            out[at + index] = wave * envelope // 800
        at += length
    return out


def as_float(samples: np.ndarray) -> np.ndarray:
    """As ffmpeg turns 16 bits into floats."""
    return samples.astype(np.float32) / 32_768
