import { flowMatchSchedule, type FlowMatchConfig, type FlowMatchSchedule } from "../diffusion/flow-match-schedule.ts";

const THRESHOLD_NOISE = 0.025;

export interface ScheduleOptions {
  readonly config: FlowMatchConfig;
  readonly mode: "classic" | "condition";
  readonly steps: number;
  /** Latent tokens of the clip; only the dynamic shift of `classic` looks at them. */
  readonly tokens: number;
  /** Timesteps (1000 to 0) of a distilled model, taken where their number is `steps`; `condition` only. */
  readonly timesteps: readonly number[] | null;
}

/**
 * Noise levels of a run. `classic` (LTXPipeline): evenly spaced, shifted for the clip's size and stretched to the terminal level;
 * `condition` (LTXConditionPipeline): a distilled model's own levels, else linear-quadratic.
 */
export function ltxSchedule({ config, mode, steps, tokens, timesteps }: ScheduleOptions): FlowMatchSchedule {
  if (mode === "classic") return flowMatchSchedule(config, steps, tokens);
  const given = timesteps?.length === steps ? Float32Array.from(timesteps) : linearQuadratic(steps).map((sigma) => sigma * 1000);
  const sigmas = new Float32Array(steps + 1);
  for (const [i, timestep] of given.entries()) sigmas[i] = timestep / config.num_train_timesteps;
  return { sigmas, timesteps: given };
}

/**
 * Noise levels that fall slowly to 1 - 0.025 over half of the steps, then as a parabola towards 0. float32.
 * Source: Lightricks/LTX-Video ltx_video/schedulers/rf.py, linear_quadratic_schedule.
 */
export function linearQuadratic(steps: number): Float32Array {
  if (steps < 2) return Float32Array.of(1);
  const linear = Math.floor(steps / 2);
  const quadratic = steps - linear;
  const difference = linear - THRESHOLD_NOISE * steps;
  const square = difference / (linear * quadratic ** 2);
  const slope = THRESHOLD_NOISE / linear - (2 * difference) / quadratic ** 2;
  const constant = square * linear ** 2;
  return Float32Array.from({ length: steps }, (_, i) =>
    i < linear ? 1 - (i * THRESHOLD_NOISE) / linear : 1 - (square * i ** 2 + slope * i + constant),
  );
}
