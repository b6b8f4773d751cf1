import type { Bounds } from "./field-value.ts";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/**
 * An image's size brought within a model's bounds, in pixels, its proportions kept as far as they allow. A side that was asked for
 * sets the scale; else the image is only scaled when it is too large or too small.
 */
export function fitSize(
  image: Size,
  bounds: { readonly width: Bounds; readonly height: Bounds },
  asked: { readonly width?: unknown; readonly height?: unknown } = {},
): Size {
  const scale = askedScale(image, asked) ?? fittingScale(image, bounds);
  const side = (name: "width" | "height"): number => {
    const { min = 1, max = Number.POSITIVE_INFINITY } = bounds[name];
    return Math.min(max, Math.max(min, Math.round(image[name] * scale)));
  };
  return { width: side("width"), height: side("height") };
}

function askedScale(image: Size, asked: { readonly width?: unknown; readonly height?: unknown }): number | null {
  if (typeof asked.width === "number") return asked.width / image.width;
  return typeof asked.height === "number" ? asked.height / image.height : null;
}

/** 1 where the image is within the bounds; one that is too narrow and too high at once is made to fit the upper bound. */
function fittingScale(image: Size, { width, height }: { readonly width: Bounds; readonly height: Bounds }): number {
  const largest = Math.min((width.max ?? Number.POSITIVE_INFINITY) / image.width, (height.max ?? Number.POSITIVE_INFINITY) / image.height);
  const smallest = Math.max((width.min ?? 1) / image.width, (height.min ?? 1) / image.height);
  return Math.min(largest, Math.max(1, smallest));
}
