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
  const { ledger, spool, config } = context;
  const { id } = job.claim;
  const [passed, earlier] = await Promise.all([
    ledger.passedOnBy(id).catch(() => new Set<string>()),
    spool.findComplete(id),
    refuseEnded(context, job),
  ]);
  if (passed.has(config.workerName) && (await isForOthers(context, job, passed))) return { kind: "not-here" };
  const entry = earlier === null ? null : await verifiedEntry(context, job, earlier);
  return entry === null ? { kind: "run" } : { kind: "outputs", entry };
}

/** @throws AppError STALLED (its hosts were lost too often) | CANCELLED */
async function refuseEnded({ requests }: Pick<WorkerContext, "requests">, { claim }: HeldJob): Promise<void> {
  const { id, deferredFailure } = claim;
  if (deferredFailure !== null) throw new AppError("STALLED", `${deferredFailure}: the workers that held it were lost`);
  const cancelled = await requests.cancelledAmong([id]).catch(() => new Set<string>());
  if (cancelled.has(id)) throw new AppError("CANCELLED", `job ${id} was cancelled by its client`);
}

async function isForOthers(context: WorkerContext, job: HeldJob, passed: ReadonlySet<string>): Promise<boolean> {
  const serving = await servingWorkers(context, job.model).catch(() => []);
  return serving.some((worker) => !passed.has(worker));
}
