import { pricesOf } from "../../core/extra-params.ts";
import { planSubmit } from "../../core/plan-submit.ts";
import { isTask, type Task } from "../../protocol/task.ts";
import type { RequestBody } from "../body/read-body.ts";
import { checkUploads } from "../body/check-uploads.ts";
import { invalid } from "../http/errors.ts";
import type { GatewayContext } from "../gateway-context.ts";
import { readHook } from "../webhooks/read-hook.ts";
import { offeredModel } from "./accept-submit.ts";
import { renamed, resolveTask, TRANSCRIBE_TASKS } from "./resolve-task.ts";

/**
 * What a job costs with its model: the manifest's `options.prices` by the path's name, else nothing. What comes is checked as a submit
 * is, but nothing besides the model is required: clients ask with the file, with its length or size, or with neither.
 * @throws HttpProblem 422
 */
export async function priceOf(context: GatewayContext, name: string, body: RequestBody): Promise<number> {
  const resolved = await resolveTask(name, body);
  const tasks: readonly Task[] = isTask(name) ? [name] : [resolved.task, ...TRANSCRIBE_TASKS];
  const { fields, fileErrors } = resolved.body;
  const { manifest } = await offeredModel(context, fields["model"], tasks);
  // Without a source, `transcribe` means whichever of its tasks the model has.
  const hasSource = isTask(name) || resolved.body.uploads.length > 0 || Object.keys(fields).some((field) => field.endsWith("_url"));
  const task = hasSource ? resolved.task : (tasks.find((each) => manifest.tasks.includes(each)) ?? resolved.task);
  const { files, errors: uploadErrors } = await checkUploads(manifest, task, resolved.body.uploads);
  const plan = planSubmit({ manifest, task, fields, files, randomSeed: 0, priceOnly: true });
  const hook = readHook(fields, context.config.allowHttpWebhooks);
  const errors = { ...renamed({ ...(plan.ok ? {} : plan.errors), ...uploadErrors, ...hook.errors }, resolved.names), ...fileErrors };
  if (Object.keys(errors).length > 0) throw invalid(errors);
  return pricesOf(manifest)[name] ?? 0;
}
