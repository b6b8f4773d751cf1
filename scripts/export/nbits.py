"""Weights in 4 or 8 bits, as onnxruntime's MatMulNBits takes them.

Each output column of a matrix is cut along its inputs into blocks of `block` values. A block has one scale and, unless it is symmetric, one zero
point: value = (code - zero point) * scale. The layout is that of onnxruntime's operator description (docs/ContribOperators.md, MatMulNBits):

    codes        uint8 [outputs, blocks, block * bits / 8]; of two 4-bit codes in a byte the first is the low one
    scales       the float type of the activations, [outputs, blocks]
    zero points  uint8 [outputs, blocks * bits / 8 rounded up], packed likewise; without them the zero point is half the range (8, 128)
"""

from dataclasses import dataclass

import numpy as np

# How much of a block's range the scale may give up: clipping the outermost value can cost less than it gains for all others.
SHRINK = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


@dataclass(frozen=True)
class Scheme:
    bits: int
    block: int
    symmetric: bool
    # Whether SHRINK is searched for the least square error of each block. Costs its length in time.
    search: bool

    @property
    def half(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def top(self) -> int:
        return (1 << self.bits) - 1

    def blocks(self, inputs: int) -> int:
        return -(-inputs // self.block)

    def zero_bytes(self, inputs: int) -> int:
        return -(-self.blocks(inputs) * self.bits // 8)


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """uint8 codes [..., n] to bytes [..., n * bits / 8 rounded up]; a missing last code is 0."""
    if bits == 8:
        return codes
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    if bits == 8:
        return packed[..., :count]
    both = np.stack([packed & 15, packed >> 4], axis=-1)
    return both.reshape(*packed.shape[:-1], -1)[..., :count]


def first_scales(values: np.ndarray, scheme: Scheme) -> tuple[np.ndarray, np.ndarray]:
    """Scales and zero points [outputs, blocks] that leave no value of a block out."""
    if scheme.symmetric:
        # The value farthest from 0 gets the code at the end that reaches one step farther, so a scale may be negative.
        farthest = np.take_along_axis(values, np.abs(values).argmax(axis=-1)[..., None], axis=-1)[..., 0]
        return farthest / -scheme.half, np.full(farthest.shape, scheme.half, np.float32)
    low, high = np.minimum(values.min(axis=-1), 0), np.maximum(values.max(axis=-1), 0)
    scales = (high - low) / scheme.top
    zeros = np.rint(np.divide(-low, scales, out=np.zeros_like(low), where=scales != 0))
    return scales, np.clip(zeros, 0, scheme.top)


def codes_of(values: np.ndarray, scales: np.ndarray, zeros: np.ndarray, top: int) -> np.ndarray:
    inverse = np.divide(1, scales, out=np.zeros_like(scales), where=scales != 0)
    codes = values * inverse[..., None]
    np.rint(codes, out=codes)
    codes += zeros[..., None]
    return np.clip(codes, 0, top, out=codes)


def square_error(values: np.ndarray, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray) -> np.ndarray:
    gap = (codes - zeros[..., None]) * scales[..., None] - values
    return np.einsum("obi,obi->ob", gap, gap)


def quantize(weight: np.ndarray, scheme: Scheme, kind: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Quantises float32 [outputs, inputs]; codes are those of the scales as they are stored, in `kind`.

    @return codes, scales and zero points (None when symmetric), packed as the operator takes them
    """
    outputs, inputs = weight.shape
    blocks = scheme.blocks(inputs)
    if blocks * scheme.block != inputs:
        weight = np.pad(weight, ((0, 0), (0, blocks * scheme.block - inputs)))
    values = weight.reshape(outputs, blocks, scheme.block)

    widest, zeros = first_scales(values, scheme)
    best = widest.astype(kind).astype(np.float32)
    codes = codes_of(values, best, zeros, scheme.top)
    if scheme.search:
        least = square_error(values, codes, best, zeros)
        for factor in SHRINK[1:]:
            tried = (widest * np.float32(factor)).astype(kind).astype(np.float32)
            tried_zeros = zeros if scheme.symmetric else np.clip(np.rint(zeros / factor - (1 / factor - 1) * scheme.top / 2), 0, scheme.top)
            tried_codes = codes_of(values, tried, tried_zeros, scheme.top)
            error = square_error(values, tried_codes, tried, tried_zeros)
            better = error < least
            least, best, zeros = np.where(better, error, least), np.where(better, tried, best), np.where(better, tried_zeros, zeros)
            codes = np.where(better[..., None], tried_codes, codes)
    packed = pack(codes.astype(np.uint8), scheme.bits)
    return packed, best.astype(kind), None if scheme.symmetric else pack(zeros.astype(np.uint8), scheme.bits)


def dequantize(codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, scheme: Scheme, inputs: int) -> np.ndarray:
    """float32 [outputs, inputs] of what `quantize` gave: what the operator multiplies with."""
    outputs, blocks = scales.shape
    values = unpack(codes, scheme.bits, scheme.block).astype(np.float32)
    points = np.full((outputs, blocks), scheme.half, np.float32) if zeros is None else unpack(zeros, scheme.bits, blocks).astype(np.float32)
    return ((values - points[..., None]) * scales.astype(np.float32)[..., None]).reshape(outputs, -1)[:, :inputs]
