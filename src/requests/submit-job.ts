import { randomInt, randomUUID } from "node:crypto";
import { planSubmit } from "../core/plan-submit.ts";
import { taskFiles } from "../core/task-files.ts";
import { RedisError } from "../core/redis-failure.ts";
import { AppError, asAppError } from "../protocol/error.ts";
import { JOB_VERSION, type JobData, type JobParams } from "../protocol/job.ts";
import type { Manifest } from "../protocol/manifest.ts";
import { REQUEST_VERSION, type RequestRecord } from "../protocol/request.ts";
import type { Task } from "../protocol/task.ts";
import type { AddOptions, Queues } from "../queue/queue-types.ts";
import type { RequestIndex } from "../state/open-request-index.ts";
import type { Requests } from "../state/state-types.ts";
import type { ObjectStore } from "../storage/object-store.ts";
import { storeInputs, type InputFile } from "./store-inputs.ts";

export interface SubmitDeps {
  readonly store: ObjectStore;
  readonly requests: Pick<Requests, "create" | "creation" | "get" | "now">;
  readonly queues: Pick<Queues, "add" | "addRecorded">;
  readonly index: Pick<RequestIndex, "queued">;
  /** Where recorded requests are repaired: called for one whose job could not be added yet, which is no failure then. */
  readonly onUnqueued?: (id: string, error: AppError) => void;
}

/** An input image, with its size in pixels where it is known. */
export interface SubmitFile extends InputFile {
  readonly width?: number;
  readonly height?: number;
}

/** Wrong fields, each with its texts, as the API's 422 answer has them. */
export class InvalidFieldsError extends AppError {
  readonly errors: Readonly<Record<string, readonly string[]>>;

  constructor(what: string, errors: Readonly<Record<string, readonly string[]>>) {
    const [field] = Object.keys(errors);
    const detail = Object.values(errors).flat().join(" ");
    super("INVALID_INPUT", `${what}: ${detail}`, { detail, ...(field !== undefined && { field }) });
    this.errors = errors;
  }
}

/** A request that was checked. */
export interface PlannedRequest {
  readonly manifest: Manifest;
  readonly task: Task;
  /** Resolved by `planSubmit`. */
  readonly params: JobParams;
  readonly files: readonly SubmitFile[];
  /** Default: a new one. */
  readonly id?: string;
  /** Others may be submitting the same request under this id: the first record counts, and inputs are left to all of them. */
  readonly isShared?: boolean;
  readonly client: string;
  /** 1 is the most urgent. */
  readonly priority: number;
  readonly timeoutMs: number;
  /** Where its webhooks go, frozen now. */
  readonly webhook?: { readonly url: string; readonly secretRef: string | null } | null;
  readonly signal?: AbortSignal;
}

export interface SubmitRequest extends Omit<PlannedRequest, "params"> {
  /** Parameters by name, JSON values or texts. */
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface Submitted {
  readonly id: string;
  readonly queue: string;
  /** As the job runs with them: defaults filled in, seed resolved. */
  readonly params: JobParams;
}

export interface SubmittedFields extends Submitted {
  /** Fields that were taken and change nothing. */
  readonly ignored: readonly string[];
}

const SEEDS = 2 ** 32;

/** As a request's seed, when it leaves it to us. */
export function randomSeed(): number {
  return randomInt(SEEDS);
}

/** Validates a request and queues it. @throws InvalidFieldsError that lists every wrong field; nothing is stored then */
export async function submitJob(deps: SubmitDeps, { fields, ...request }: SubmitRequest): Promise<SubmittedFields> {
  const { manifest, task, files } = request;
  const plan = planSubmit({ manifest, task, fields, files, randomSeed: randomSeed() });
  if (!plan.ok) throw new InvalidFieldsError(`${task} with ${manifest.slug}`, plan.errors);
  return { ...(await queueJob(deps, { ...request, params: plan.params })), ignored: plan.ignored };
}

/**
 * Puts a checked request into its model's queue: inputs into the object store, then the request record and the job, in one step or one
 * after the other. A crash after the record leaves a record without a job, which is found and repaired (repair-requests.ts); the other way
 * round nobody would know of the job. @throws AppError of storeInputs, REDIS_UNAVAILABLE
 */
export async function queueJob(deps: SubmitDeps, request: PlannedRequest): Promise<Submitted> {
  const { manifest, task, params } = request;
  const id = request.id ?? randomUUID();
  const queue = manifest.slug;
  const files = taskFiles(manifest, task, request.files);
  const inputs = await storeInputs(deps.store, id, files, { signal: request.signal, keepOnFailure: request.isShared === true });
  request.signal?.throwIfAborted();
  const shared = { id, task, model: manifest.slug, client: request.client, params, inputs, timeoutMs: request.timeoutMs };
  const record: RequestRecord = {
    ...shared,
    v: REQUEST_VERSION,
    queue,
    priority: request.priority,
    webhookUrl: request.webhook?.url ?? null,
    webhookSecretRef: request.webhook?.secretRef ?? null,
    createdAt: await deps.requests.now(),
    startedAt: null,
    cancelledAt: null,
  };
  const { kept, failure } = await recordAndAdd(deps, record, request.isShared === true);
  // What is recorded is accepted: its job will be added whatever is answered now, so a refusal would be a lie.
  if (failure !== null && (deps.onUnqueued === undefined || failure.code !== "REDIS_UNAVAILABLE")) throw failure;
  if (failure === null) deps.index.queued(id);
  else deps.onUnqueued?.(id, failure);
  return { id, queue, params: kept.params };
}

interface Recorded {
  /** The first record of this id counts. */
  readonly kept: RequestRecord;
  /** Why the job is not in its queue yet. */
  readonly failure: AppError | null;
}

/**
 * In one step where the id is ours alone and no delivery has to be added beside the job.
 * @throws AppError when there is no record: inputs that Redis refused for sure are deleted; what it did not answer may have been recorded
 */
async function recordAndAdd(deps: SubmitDeps, record: RequestRecord, isShared: boolean): Promise<Recorded> {
  try {
    if (!isShared && record.webhookUrl === null) {
      const failure = await deps.queues.addRecorded(deps.requests.creation(record), jobOf(record), addOptionsOf(record));
      return { kept: record, failure };
    }
    const kept = (await deps.requests.create(record)) ? record : ((await deps.requests.get(record.id)) ?? record);
    const failure = await deps.queues.add(jobOf(kept), addOptionsOf(kept)).then(() => null, asAppError);
    return { kept, failure };
  } catch (thrown) {
    const isRefused = thrown instanceof RedisError && thrown.failure.kind !== "away";
    if (isRefused && !isShared && record.inputs.length > 0) await deps.store.deletePrefix(`inputs/${record.id}/`).catch(() => undefined);
    throw thrown;
  }
}

/** With a webhook, the delivery of the end is added in the same step as the job. */
export function addOptionsOf({ priority, webhookUrl }: RequestRecord): AddOptions {
  return webhookUrl === null ? { priority } : { priority, webhook: true };
}

/** The job of a record: also what a repair adds. */
export function jobOf(record: RequestRecord): JobData {
  const { id, task, model, client, params, inputs, timeoutMs, createdAt } = record;
  return { v: JOB_VERSION, id, task, model, client, params, inputs, timeoutMs, submittedAt: createdAt };
}
