import { steadyNow } from "../lib/steady-clock.ts";
import type { HealthCheck, HealthReport } from "../telemetry/admin-server.ts";
import type { Daemon } from "./daemon.ts";

/** Idle runners are pinged every 20 s; a busy one is proven by its stage deadlines. */
const PROOF_AGE_MS = 60_000;
/** The loop hears at least a peek of the queues or a device measurement every few seconds. */
const LOOP_SILENCE_MS = 30_000;

/** Alive: the supervisor's loop alone turns. Nothing outside the process can make this false. */
export function liveness(daemon: Daemon, now: number = steadyNow()): HealthReport {
  const silentMs = now - daemon.loop.toldAt;
  return report({ loop: { ok: silentMs < LOOP_SILENCE_MS, detail: `last event ${silentMs} ms ago` } });
}

/** The answer until the start is over. */
export const STARTING: HealthReport = { ok: false, checks: { start: { ok: false, detail: "the worker is starting" } } };

/** Able to take work now. `redis` and `store`: whether writes to them work, which claims and results need. */
export function readiness(
  daemon: Daemon,
  { redis, store }: { readonly redis: HealthCheck; readonly store: HealthCheck },
  now: number = steadyNow(),
): HealthReport {
  const { paused } = daemon.loop.state;
  const stale = daemon.pool.up.filter((runner) => runner.process.state === "ready" && now - runner.provenAt > PROOF_AGE_MS);
  return report({
    draining: { ok: !daemon.draining, ...(daemon.draining && { detail: "the worker is shutting down" }) },
    redis,
    store: { ok: store.ok, ...(store.detail !== undefined && { detail: store.detail }) },
    models: models(daemon),
    devices: daemon.care.report(),
    runners: {
      ok: stale.length === 0,
      detail:
        stale.length === 0
          ? `${daemon.pool.up.length} loaded`
          : `no device operation for a minute: ${stale.map(({ id }) => id).join(", ")}`,
    },
    claims: {
      ok: paused.filter((reason) => reason !== "redis" && reason !== "store").length === 0,
      ...(paused.length > 0 && { detail: `paused: ${paused.join(", ")}` }),
    },
  });
}

/** A pin is the operator's word that this host serves the model: without it the host is not what was asked for. */
function models({ served, unservedPins }: Daemon): HealthCheck {
  if (served.length === 0) return { ok: false, detail: "no model that is asked for is complete on disk: see dryapi models list" };
  if (unservedPins.length > 0) return { ok: false, detail: `pinned and not served: ${unservedPins.join(", ")}; the log says why` };
  return { ok: true, detail: served.join(", ") };
}

function report(checks: Readonly<Record<string, HealthCheck>>): HealthReport {
  return { ok: Object.values(checks).every((check) => check.ok), checks };
}
