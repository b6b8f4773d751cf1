import type { Metrics } from "../telemetry/metrics.ts";
import type { Daemon } from "./daemon.ts";
import { modelStates } from "./unusable-models.ts";
import { MODEL_STATES } from "../models/scan-models.ts";
import type { WorkerContext } from "./worker-context.ts";

/** Sets at each scrape what nobody counts along. */
export function exportGauges(metrics: Metrics<"worker">, daemon: Daemon, context: Pick<WorkerContext, "config" | "models">): void {
  metrics.onScrape(() => {
    metrics.setModels("worker", daemon.served);
    const states = { starting: daemon.pool.loading, ready: 0, busy: 0, draining: 0 };
    for (const { process: child } of daemon.pool.up) {
      if (child.state === "ready" || child.state === "busy" || child.state === "draining") states[child.state] += 1;
    }
    for (const state of ["starting", "ready", "busy", "draining"] as const) metrics.runners.set({ state }, states[state]);
    const models = modelStates(context);
    for (const state of MODEL_STATES) metrics.models.set({ state }, models[state]);
    for (const device of daemon.loop.state.devices) metrics.deviceQuarantined.set({ device: device.id }, device.inService ? 0 : 1);
    metrics.uploadsWaiting.set(daemon.carrier.storing);
  });
}
