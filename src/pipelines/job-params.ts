import type { Bounds } from "../core/field-value.ts";
import { alignDown, fitSize, type Size } from "../core/fit-size.ts";
import { invalidParam, numberParam, type JobParams } from "../protocol/job.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { isAudioFormat, type AudioFormat } from "./media/encode-audio.ts";

/**
 * A job's parameters as the families read them: what a job does not say is the manifest's default, else the family's; all of it within the
 * manifest's limits. The gateway checks the same: here it is checked for jobs that came another way. All throw AppError INVALID_INPUT.
 */
export class ParamReader {
  readonly #params: JobParams;
  readonly #manifest: Manifest;

  constructor(params: JobParams, manifest: Manifest) {
    this.#params = params;
    this.#manifest = manifest;
  }

  /** Whether the job says anything about it. */
  has(name: string): boolean {
    return this.#params[name] !== undefined && this.#params[name] !== null;
  }

  /** Without a `fallback` a number that nobody gives is an error. */
  number(name: string, fallback?: number): number {
    const { defaults, limits, slug } = this.#manifest;
    const otherwise = defaults[name] ?? fallback;
    const value = !this.has(name) && typeof otherwise === "number" ? otherwise : numberParam(this.#params, name);
    const [low, high] = [limits[`min_${name}`] ?? -Infinity, limits[`max_${name}`] ?? Infinity];
    if (value < low || value > high) throw invalidParam(name, value, `${low} to ${high} for model ${slug}`);
    return value;
  }

  whole(name: string, least: number, fallback?: number): number {
    const value = this.number(name, fallback);
    if (Number.isInteger(value) && value >= least) return value;
    throw invalidParam(name, value, `an integer from ${least} on`);
  }

  /** What starts a generator of torch's. */
  seed(): number {
    const seed = numberParam(this.#params, "seed");
    if (Number.isSafeInteger(seed) && seed >= 0) return seed;
    throw invalidParam("seed", seed, "an integer from 0 to 2^53-1 (-1 is resolved at submit)");
  }

  /**
   * The picture's size, sides multiples of the family's step and of the model's. What a job with an image does not say is the image's, by
   * the rule of the submit; what one without does not say, is the manifest's default.
   */
  size(familyStep: number, image: Size | null = null): Size {
    const { limits } = this.#manifest;
    const own = limits["resolution_step"] ?? familyStep;
    const step = own % familyStep === 0 ? own : familyStep;
    const bounds = (name: string): Bounds => ({ min: limits[`min_${name}`] ?? step, max: limits[`max_${name}`] });
    const rule = { width: bounds("width"), height: bounds("height"), step };
    const asked = { width: this.#params["width"], height: this.#params["height"] };
    const fitted = image === null ? null : fitSize(image, rule, asked);
    const side = (name: "width" | "height"): number =>
      fitted !== null && !this.has(name) ? fitted[name] : alignDown(this.whole(name, familyStep), step, rule[name]);
    return { width: side("width"), height: side("height") };
  }

  /** Empty where it is not given. */
  text(name: string): string {
    const value = this.#params[name];
    return typeof value === "string" ? value : "";
  }

  audioFormat(): AudioFormat {
    const format = this.#params["format"] ?? this.#manifest.defaults["format"] ?? "mp3";
    if (isAudioFormat(format)) return format;
    throw invalidParam("format", JSON.stringify(format), "mp3, wav, flac or ogg");
  }
}
