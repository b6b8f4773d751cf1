import { createHash, randomUUID } from "node:crypto";
import { isAbsent } from "../../core/field-value.ts";
import { modelRefusal, type ModelTasks } from "../../core/model-refusal.ts";
import { waitReason } from "../../core/model-availability.ts";
import { planSubmit } from "../../core/plan-submit.ts";
import { canonicalJson } from "../../lib/canonical-json.ts";
import type { ModelEntry } from "../../models/scan-models.ts";
import { ERROR_TABLE, AppError } from "../../protocol/error.ts";
import type { JobParams } from "../../protocol/job.ts";
import type { Task } from "../../protocol/task.ts";
import { queueJob, randomSeed, type SubmitFile } from "../../requests/submit-job.ts";
import { checkUploads } from "../body/check-uploads.ts";
import { HttpProblem, invalid } from "../http/errors.ts";
import type { AuthenticatedClient, GatewayContext } from "../gateway-context.ts";
import { readHook, type HookFields } from "../webhooks/read-hook.ts";
import { renamed, type ResolvedTask } from "./resolve-task.ts";

export interface Submission extends ResolvedTask {
  readonly client: AuthenticatedClient;
  /** Of the Idempotency-Key header. */
  readonly key: string | null;
}

interface Checked {
  readonly entry: ModelEntry;
  readonly files: readonly SubmitFile[];
  readonly hook: HookFields;
  readonly params: JobParams;
  readonly ignored: readonly string[];
  readonly digests: readonly string[];
}

export interface Accepted {
  readonly id: string;
  /** Fields that were taken and change nothing, in the client's names. */
  readonly ignored: readonly string[];
}

/** The seed of a plan that leaves it open: no client can ask for it. */
const OPEN_SEED = -1;

/** Checks a submit and puts it into its queue. @throws HttpProblem 422, which leaves nothing behind; AppError */
export async function acceptSubmit(context: GatewayContext, submission: Submission): Promise<Accepted> {
  const { client, task, key } = submission;
  const { idempotency, requests, webhooks } = context;
  const checked = await check(context, submission);
  const { entry, files, hook, params, ignored } = checked;
  const own = randomUUID();
  const claim =
    key === null
      ? null
      : await idempotency.claim({ client: client.id, key, fingerprint: fingerprintOf(submission, checked), requestId: own });
  if (claim?.kind === "conflict")
    throw invalid({ "Idempotency-Key": ["The Idempotency-Key header was used for another request within the last 24 hours."] });
  // Without a record, whoever had this key before did not get that far, or is just about to: both go on under one id, so that it is one job.
  const id = claim?.kind === "same" ? claim.requestId : own;
  if (claim?.kind === "same" && (await requests.get(id)) !== null) return { id, ignored };
  try {
    const webhook = await webhooks.freezeTarget({ client: client.id, requestId: id, url: hook.url, secret: hook.secret });
    const { manifest } = entry;
    const { priority, id: clientId } = client;
    const { jobTimeoutMs: timeoutMs } = context.config;
    const isShared = key !== null;
    const onUnqueued = (request: string, err: AppError): void =>
      context.log.warn({ request, err }, "a request was recorded and could not be queued: its job is added as soon as Redis lets us");
    await queueJob(
      { ...context, onUnqueued },
      { id, isShared, webhook, manifest, task, params, files, client: clientId, priority, timeoutMs },
    );
  } catch (thrown) {
    // A request that was refused leaves its key free. One that may have been recorded keeps it: only so is a repetition the same request.
    if (key !== null && isRefusal(thrown)) await idempotency.release({ client: client.id, key, requestId: own }).catch(() => undefined);
    throw thrown;
  }
  context.metrics.submits.inc({ task, model: entry.slug });
  return { id, ignored };
}

function isRefusal(thrown: unknown): boolean {
  return thrown instanceof HttpProblem || (thrown instanceof AppError && ERROR_TABLE[thrown.code].http < 500);
}

/** @throws HttpProblem 422 that names every wrong field at once */
async function check(context: GatewayContext, { task, body, names }: Submission): Promise<Checked> {
  const { fields } = body;
  const entry = await offeredModel(context, fields["model"], [task]);
  const { files, errors: uploadErrors, digests } = await checkUploads(entry.manifest, task, body.uploads);
  const hook = readHook(fields, context.config.allowHttpWebhooks);
  const plan = planSubmit({ manifest: entry.manifest, task, fields, files, randomSeed: randomSeed() });
  const errors = { ...(plan.ok ? {} : plan.errors), ...uploadErrors, ...hook.errors };
  if (!plan.ok || Object.keys(errors).length + Object.keys(body.fileErrors).length > 0)
    throw invalid({ ...renamed(errors, names), ...body.fileErrors });
  return { entry, files, hook, params: plan.params, ignored: plan.ignored, digests };
}

/** The model that a request names, for one of the tasks. @throws HttpProblem 422 */
export async function offeredModel({ offered }: GatewayContext, slug: unknown, tasks: readonly Task[]): Promise<ModelEntry> {
  if (isAbsent(slug)) throw invalid({ model: ["The model field is required."] });
  const refused = async (): Promise<HttpProblem> =>
    invalid({ model: [modelRefusal({ wanted: slug, tasks, offered: await modelTasks(offered) })] });
  if (typeof slug !== "string") throw await refused();
  // First: where this gateway shares the workers' folder, a manifest that they cannot read is not offered either.
  const availability = await offered.availability(slug);
  if (availability.kind === "unusable") {
    const { code, publicText } = waitReason(availability);
    throw invalid({ model: [`The selected model cannot be used now. ${publicText} (${code})`] });
  }
  const found = await Promise.all(tasks.map((task) => offered.find(slug, task)));
  const entry = found.find((each) => each !== null);
  if (entry === undefined) throw await refused();
  return entry;
}

async function modelTasks(offered: GatewayContext["offered"]): Promise<readonly ModelTasks[]> {
  return (await offered.list()).map(({ slug, manifest }) => ({ slug, tasks: manifest.tasks }));
}

/** The same for every request that means the same, in whatever order, spelling and encoding it came. */
function fingerprintOf({ task, body }: Submission, { entry, files, hook, digests }: Checked): string {
  // Planned once more with the seed left open: which one was drawn says nothing about the request.
  const plan = planSubmit({ manifest: entry.manifest, task, fields: body.fields, files, randomSeed: OPEN_SEED });
  const params = plan.ok ? plan.params : {};
  const content = { task, model: entry.slug, params, files: digests, url: hook.url, secret: hook.secret };
  return createHash("sha256").update(canonicalJson(content)).digest("hex");
}
