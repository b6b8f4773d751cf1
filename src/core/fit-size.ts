import type { Bounds } from "./field-value.ts";

/** Pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface SizeRule {
  readonly width: Bounds;
  readonly height: Bounds;
  /** Sides are multiples of it. */
  readonly step: number;
}

/** Undoes a product a rounding error below a whole number. */
const ROUNDING_ERROR = 1e-6;

/** Down to a multiple of the step, but not below the smallest multiple that the minimum allows. */
export function alignDown(side: number, step: number, { min = 1 }: Bounds): number {
  return Math.max(Math.floor(side / step), Math.ceil(min / step)) * step;
}

/**
 * The size that is made of an image, its proportions kept as far as the model's bounds and step allow. A side that was asked for sets the
 * scale; else the image is only scaled when it is too large or too small. The one rule for it: the submit and the families use it.
 */
export function fitSize(image: Size, rule: SizeRule, asked: { readonly width?: unknown; readonly height?: unknown } = {}): Size {
  const scale = askedScale(image, asked) ?? fittingScale(image, rule);
  const side = (name: "width" | "height"): number => {
    const { max = Number.POSITIVE_INFINITY } = rule[name];
    return alignDown(Math.min(max, image[name] * scale + ROUNDING_ERROR), rule.step, rule[name]);
  };
  return { width: side("width"), height: side("height") };
}

function askedScale(image: Size, asked: { readonly width?: unknown; readonly height?: unknown }): number | null {
  if (typeof asked.width === "number") return asked.width / image.width;
  return typeof asked.height === "number" ? asked.height / image.height : null;
}

/** 1 where the image is within the bounds; one that is too narrow and too high at once is made to fit the upper bound. */
function fittingScale(image: Size, { width, height }: SizeRule): number {
  const largest = Math.min((width.max ?? Number.POSITIVE_INFINITY) / image.width, (height.max ?? Number.POSITIVE_INFINITY) / image.height);
  const smallest = Math.max((width.min ?? 1) / image.width, (height.min ?? 1) / image.height);
  return Math.min(largest, Math.max(1, smallest));
}
