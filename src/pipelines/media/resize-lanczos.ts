import type { RgbImage } from "./rgb-image.ts";

/**
 * Pillow's LANCZOS resize, bit for bit, because that is what diffusers prepares an input picture with (libvips' lanczos3 differs by many
 * levels at edges: it shrinks in blocks first and enlarges with another kernel). Two separable passes with coefficients of 22 bits,
 * rounded to bytes in between; a side that keeps its size skips its pass. Source: Pillow 13 src/libImaging/Resample.c, whose order of the
 * passes older versions do not have.
 */
const SUPPORT = 3;
const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

interface Taps {
  /** First source pixel of each target pixel. */
  readonly first: Int32Array;
  /** Source pixels of each target pixel, at most `stride`. */
  readonly count: Int32Array;
  readonly weights: Int32Array;
  readonly stride: number;
}

export function resizeLanczos(image: RgbImage, width: number, height: number): RgbImage {
  const lostRows = image.height - height;
  if (lostRows > 0 && lostRows > 2 * (image.width - width)) return toWidth(toHeight(image, height), width);
  return toHeight(toWidth(image, width), height);
}

function toWidth(image: RgbImage, width: number): RgbImage {
  return width === image.width ? image : resizeRows(image, width);
}

function toHeight(image: RgbImage, height: number): RgbImage {
  return height === image.height ? image : resizeColumns(image, height);
}

function lanczos(x: number): number {
  return x >= -SUPPORT && x < SUPPORT ? sinc(x) * sinc(x / SUPPORT) : 0;
}

function sinc(x: number): number {
  if (x === 0) return 1;
  const radians = x * Math.PI;
  return Math.sin(radians) / radians;
}

function planTaps(from: number, to: number): Taps {
  const scale = from / to;
  const filterScale = Math.max(scale, 1);
  const support = SUPPORT * filterScale;
  const stride = Math.ceil(support) * 2 + 1;
  const first = new Int32Array(to);
  const count = new Int32Array(to);
  const weights = new Int32Array(to * stride);
  const exact = new Float64Array(stride);
  for (let target = 0; target < to; target++) {
    const center = (target + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - support + 0.5));
    const taps = Math.min(from, Math.trunc(center + support + 0.5)) - low;
    let sum = 0;
    for (let tap = 0; tap < taps; tap++) {
      const weight = lanczos((tap + low - center + 0.5) / filterScale);
      exact[tap] = weight;
      sum += weight;
    }
    for (let tap = 0; tap < taps; tap++) {
      const fixed = (exact[tap]! / sum) * (1 << PRECISION_BITS);
      weights[target * stride + tap] = Math.trunc(fixed < 0 ? fixed - 0.5 : fixed + 0.5);
    }
    first[target] = low;
    count[target] = taps;
  }
  return { first, count, weights, stride };
}

function resizeRows(image: RgbImage, width: number): RgbImage {
  const { first, count, weights, stride } = planTaps(image.width, width);
  const { data: source, height } = image;
  // Clamped: conversion to a byte then equals Pillow's clip8.
  const data = new Uint8ClampedArray(width * height * 3);
  let out = 0;
  for (let y = 0; y < height; y++) {
    const row = y * image.width * 3;
    for (let x = 0; x < width; x++) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let at = row + first[x]! * 3;
      const end = x * stride + count[x]!;
      for (let tap = x * stride; tap < end; tap++, at += 3) {
        const weight = weights[tap]!;
        red += source[at]! * weight;
        green += source[at + 1]! * weight;
        blue += source[at + 2]! * weight;
      }
      data[out++] = red >> PRECISION_BITS;
      data[out++] = green >> PRECISION_BITS;
      data[out++] = blue >> PRECISION_BITS;
    }
  }
  return { width, height, data: new Uint8Array(data.buffer) };
}

function resizeColumns(image: RgbImage, height: number): RgbImage {
  const { first, count, weights, stride } = planTaps(image.height, height);
  const { data: source, width } = image;
  const data = new Uint8ClampedArray(width * height * 3);
  const rowBytes = width * 3;
  for (let y = 0; y < height; y++) {
    const start = first[y]! * rowBytes;
    const end = y * stride + count[y]!;
    const out = y * rowBytes;
    for (let x = 0; x < rowBytes; x++) {
      let sum = HALF;
      let at = start + x;
      for (let tap = y * stride; tap < end; tap++, at += rowBytes) sum += source[at]! * weights[tap]!;
      data[out + x] = sum >> PRECISION_BITS;
    }
  }
  return { width, height, data: new Uint8Array(data.buffer) };
}
