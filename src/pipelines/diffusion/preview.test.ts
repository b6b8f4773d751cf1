import assert from "node:assert/strict";
import { test } from "node:test";
import sharp from "sharp";
import { MAX_PREVIEW_BYTES } from "../../protocol/event.ts";
import { FLUX_LATENT_RGB } from "./latent-rgb.ts";
import { packLatents } from "./latents.ts";
import { jpegWithin, LatentPreview } from "./preview.ts";
import { TorchRandom } from "./torch-random.ts";

function noisy(shape: { channels: number; height: number; width: number }, seed: number): Float32Array {
  return new TorchRandom(seed).randn(shape.channels * shape.height * shape.width);
}

test("the colours are the table applied to x0, pixel by pixel", () => {
  const shape = { channels: 16, height: 4, width: 6 };
  const x = noisy(shape, 1);
  const v = noisy(shape, 2);
  const packedX = new Float32Array(x.length);
  const packedV = new Float32Array(v.length);
  packLatents(x, shape, packedX);
  packLatents(v, shape, packedV);
  const rgb = new LatentPreview(shape, FLUX_LATENT_RGB).paint(packedX, packedV, 0.5);
  const area = shape.height * shape.width;
  for (let pixel = 0; pixel < area; pixel++) {
    for (let color = 0; color < 3; color++) {
      let value = FLUX_LATENT_RGB.bias[color]!;
      for (let channel = 0; channel < 16; channel++) {
        const at = channel * area + pixel;
        value += (x[at]! - 0.5 * v[at]!) * FLUX_LATENT_RGB.factors[channel]![color]!;
      }
      const expected = Math.min(1, Math.max(0, (value + 1) / 2)) * 255;
      assert.ok(Math.abs(rgb[pixel * 3 + color]! - expected) <= 1);
    }
  }
});

test("a preview of a 2048 px picture is a JPEG within 256 px and 16 KiB", async () => {
  const shape = { channels: 16, height: 192, width: 256 };
  const jpeg = await new LatentPreview(shape, FLUX_LATENT_RGB).render(noisy(shape, 3), noisy(shape, 4), 1);
  const { format, width, height } = await sharp(jpeg).metadata();
  assert.deepEqual({ format, width, height }, { format: "jpeg", width: 256, height: 192 });
  assert.ok(jpeg.length <= MAX_PREVIEW_BYTES);
});

test("the worst picture still fits: quality falls, then size", async () => {
  const rgb = new Uint8Array(600 * 400 * 3).map((_, i) => (i * 2654435761) >>> 24);
  const roomy = await sharp(await jpegWithin(rgb, 600, 400, MAX_PREVIEW_BYTES)).metadata();
  assert.deepEqual([roomy.width, roomy.height], [256, 171]);
  const tight = await jpegWithin(rgb, 600, 400, 1500);
  assert.ok(tight.length <= 1500);
});

test("values that are not numbers paint black", () => {
  const shape = { channels: 16, height: 2, width: 2 };
  const rgb = new LatentPreview(shape, FLUX_LATENT_RGB).paint(new Float32Array(64).fill(Number.NaN), new Float32Array(64), 1);
  assert.ok(rgb.every((value) => value === 0));
});
