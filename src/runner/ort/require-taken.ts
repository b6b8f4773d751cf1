import { AppError } from "../../protocol/error.ts";
import type { Environment } from "./environment.ts";
import { readPlacement } from "./node-placement.ts";
import type { Pointer } from "./signature.ts";

/**
 * Whether a graph runs on what was named for it: onnxruntime puts a graph that no provider wants on the CPU without a word.
 * @throws AppError MODEL_UNSUPPORTED when none of the providers took a node
 */
export function requireTaken(env: Environment, session: Pointer<"Session">, path: string, providers: readonly string[]): void {
  const taken = Object.keys(readPlacement(env, session));
  if (taken.length === 0 || taken.some((name) => providers.includes(name))) return;
  throw new AppError(
    "MODEL_UNSUPPORTED",
    `${path}: none of its nodes were taken by ${providers.join(" or ")}, they are on ${taken.join(", ")}; name cpu as the last provider to allow that, or leave these providers out of the runtime options`,
  );
}
