/** Steps and guidance of flow-match models in float32, rounded as torch rounds them: a seed gives the same picture here and there. */

/** Euler, in place from value `first` on: `x += delta * velocity`; `delta` is the next noise level less this one. */
export function eulerStep(latents: Float32Array, velocity: Float32Array, delta: number, first = 0): void {
  const step = Math.fround(delta);
  for (let i = first; i < latents.length; i++) latents[i] = latents[i]! + Math.fround(step * velocity[i]!);
}

/** Classifier-free guidance, into `conditioned`: `negative + scale * (conditioned - negative)`. */
export function guide(conditioned: Float32Array, negative: Float32Array, scale: number): void {
  for (let i = 0; i < conditioned.length; i++)
    conditioned[i] = negative[i]! + Math.fround(scale * Math.fround(conditioned[i]! - negative[i]!));
}
