import { AppError } from "../../protocol/error.ts";
import type { CompleteEntry } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";
import type { HeldJob } from "./held-job.ts";
import { verifiedEntry } from "./outputs.ts";
import { servingWorkers } from "./settler.ts";

export type Admission =
  | { readonly kind: "run" }
  /** Outputs of an earlier claim are whole on this disk: they are stored under this claim, and the device is not used again. */
  | { readonly kind: "outputs"; readonly entry: CompleteEntry }
  /** This worker has passed the job on before, and another live one could take it. */
  | { readonly kind: "not-here" };

/**
 * What is to be done with a claim, before anything is done for it.
 * @throws AppError STALLED (its hosts were lost too often) | CANCELLED
 */
export async function admit(context: WorkerContext, job: HeldJob): Promise<Admission> {
  const { requests, ledger, spool, config } = context;
  const { id, deferredFailure } = job.claim;
  if (deferredFailure !== null) throw new AppError("STALLED", `${deferredFailure}: the workers that held it were lost`);
  const [cancelled, passed, earlier] = await Promise.all([
    requests.cancelledAmong([id]).catch(() => new Set<string>()),
    ledger.passedOnBy(id).catch(() => new Set<string>()),
    spool.findComplete(id),
  ]);
  if (cancelled.has(id)) throw new AppError("CANCELLED", `job ${id} was cancelled by its client`);
  if (passed.has(config.workerName) && (await isForOthers(context, job, passed))) return { kind: "not-here" };
  const entry = earlier === null ? null : await verifiedEntry(context, job, earlier);
  return entry === null ? { kind: "run" } : { kind: "outputs", entry };
}

async function isForOthers(context: WorkerContext, job: HeldJob, passed: ReadonlySet<string>): Promise<boolean> {
  const serving = await servingWorkers(context, job.model).catch(() => []);
  return serving.some((worker) => !passed.has(worker));
}
