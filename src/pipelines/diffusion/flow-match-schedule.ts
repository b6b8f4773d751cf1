import { z } from "zod";
import { AppError } from "../../protocol/error.ts";

/**
 * The noise schedule of flow-matching models (diffusers' FlowMatchEulerDiscreteScheduler), in float32 like numpy does it there.
 * sigma runs from 1 (noise) to 0 (picture); a step is `x += (sigmas[i + 1] - sigmas[i]) * v`.
 */
const configSchema = z.object({
  _class_name: z.string(),
  num_train_timesteps: z.number().positive().default(1000),
  shift: z.number().positive().default(1),
  use_dynamic_shifting: z.boolean().nullish(),
  time_shift_type: z.enum(["exponential", "linear"]).default("exponential"),
  base_shift: z.number().nullish(),
  max_shift: z.number().nullish(),
  base_image_seq_len: z.number().nullish(),
  max_image_seq_len: z.number().nullish(),
  shift_terminal: z.number().nullish(),
  invert_sigmas: z.boolean().nullish(),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.boolean().nullish(),
  use_beta_sigmas: z.boolean().nullish(),
  stochastic_sampling: z.boolean().nullish(),
});

export type FlowMatchConfig = z.infer<typeof configSchema>;

export interface FlowMatchSchedule {
  /** steps + 1 values, float32, the last one 0. */
  readonly sigmas: Float32Array;
  /** steps values, sigma times the number of training steps, float32. */
  readonly timesteps: Float32Array;
}

const CLASS_NAME = "FlowMatchEulerDiscreteScheduler";
const NOT_BUILT = ["invert_sigmas", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "stochastic_sampling"] as const;

/** Reads a diffusers scheduler_config.json. @throws AppError MODEL_UNSUPPORTED that names `origin` and the setting. */
export function parseFlowMatchConfig(value: unknown, origin: string): FlowMatchConfig {
  const parsed = configSchema.safeParse(value);
  if (!parsed.success)
    throw new AppError("MODEL_UNSUPPORTED", `${origin}: not a flow-match scheduler configuration: ${z.prettifyError(parsed.error)}`);
  const config = parsed.data;
  if (config._class_name !== CLASS_NAME) {
    throw new AppError("MODEL_UNSUPPORTED", `${origin}: scheduler ${config._class_name} is not supported, expected ${CLASS_NAME}`);
  }
  const odd = NOT_BUILT.find((key) => config[key] === true);
  if (odd !== undefined) throw new AppError("MODEL_UNSUPPORTED", `${origin}: ${odd} is true, which is not supported; expected false`);
  return config;
}

/** diffusers' `calculate_shift`: how far the schedule leans to noise for a picture of that many tokens. */
export function dynamicShift(config: FlowMatchConfig, imageTokens: number): number {
  const baseTokens = config.base_image_seq_len ?? 256;
  const maxTokens = config.max_image_seq_len ?? 4096;
  const base = config.base_shift ?? 0.5;
  const max = config.max_shift ?? 1.15;
  const slope = (max - base) / (maxTokens - baseTokens);
  return imageTokens * slope + (base - slope * baseTokens);
}

/** @param steps at least 1. @param imageTokens packed latent tokens (width/16 * height/16); only dynamic shifting looks at it. */
export function flowMatchSchedule(config: FlowMatchConfig, steps: number, imageTokens: number): FlowMatchSchedule {
  const sigmas = new Float32Array(steps + 1);
  const last = 1 / steps;
  const stride = steps === 1 ? 0 : (last - 1) / (steps - 1);
  const shift = config.use_dynamic_shifting === true ? dynamicShifter(config, imageTokens) : staticShifter(config.shift);
  for (let i = 0; i < steps; i++) {
    // numpy.linspace gives its end point exactly, whatever the rounding of start + i * stride.
    const sigma = i === steps - 1 && steps > 1 ? last : 1 + i * stride;
    sigmas[i] = shift(Math.fround(sigma));
  }
  const terminal = config.shift_terminal;
  if (terminal !== null && terminal !== undefined && terminal !== 0) stretchToTerminal(sigmas.subarray(0, steps), terminal);
  const timesteps = sigmas.slice(0, steps).map((sigma) => sigma * config.num_train_timesteps);
  return { sigmas, timesteps };
}

function staticShifter(shift: number): (sigma: number) => number {
  const factor = Math.fround(shift);
  const above = Math.fround(shift - 1);
  return (sigma) => Math.fround(factor * sigma) / Math.fround(1 + Math.fround(above * sigma));
}

function dynamicShifter(config: FlowMatchConfig, imageTokens: number): (sigma: number) => number {
  const mu = dynamicShift(config, imageTokens);
  const weight = Math.fround(config.time_shift_type === "linear" ? mu : Math.exp(mu));
  return (sigma) => weight / Math.fround(weight + Math.fround(Math.fround(1 / sigma) - 1));
}

/** Stretches in place so that the last sigma is `terminal`. */
function stretchToTerminal(sigmas: Float32Array, terminal: number): void {
  const scale = Math.fround(Math.fround(1 - sigmas.at(-1)!) / Math.fround(1 - terminal));
  for (let i = 0; i < sigmas.length; i++) sigmas[i] = 1 - Math.fround(Math.fround(1 - sigmas[i]!) / scale);
}

/**
 * The step at which image-to-image starts (diffusers' `get_timesteps`): the first `start` steps are skipped. `start === steps` means
 * that the strength is too small for that many steps.
 */
export function firstStep(steps: number, strength: number): number {
  return Math.trunc(Math.max(steps - Math.min(steps * strength, steps), 0));
}
