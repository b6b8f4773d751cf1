import { waitReason, type ModelAvailability, type WaitReason } from "../core/model-availability.ts";
import type { RequestState } from "./read-state.ts";

export interface WaitDeps {
  /** @throws AppError REDIS_UNAVAILABLE */
  readonly availability: (model: string) => Promise<ModelAvailability>;
}

/** Why no worker takes a pending request; null when it only waits for its turn, or does not wait. @throws AppError REDIS_UNAVAILABLE */
export async function whyWaiting(deps: WaitDeps, { record, state }: Pick<RequestState, "record" | "state">): Promise<WaitReason | null> {
  return state.status === "pending" ? waitReason(await deps.availability(record.model)) : null;
}
