import { steadyNow } from "../../lib/steady-clock.ts";
import type { Logger } from "../../telemetry/logger.ts";

/** What keeps requests from being served, told to the operator once and not once per request. */
export interface TroubleLog {
  tell(kind: string, fields: Readonly<Record<string, unknown>>): void;
}

/** The same trouble is told again after so long, with how many requests it has cost since. */
const AGAIN_MS = 60_000;

export function openTroubleLog(log: Pick<Logger, "error" | "debug">, now: () => number = steadyNow): TroubleLog {
  const told = new Map<string, { at: number; since: number }>();
  return {
    tell: (kind, fields) => {
      const last = told.get(kind);
      if (last !== undefined && now() - last.at < AGAIN_MS) {
        last.since += 1;
        log.debug({ ...fields, trouble: kind }, "a request could not be served now");
        return;
      }
      log.error(
        { ...fields, trouble: kind, ...(last !== undefined && { sinceLastTold: last.since }) },
        "requests cannot be served now (503): the cause is in err",
      );
      told.set(kind, { at: now(), since: 0 });
    },
  };
}
