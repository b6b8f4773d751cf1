import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { readConfig, type Config } from "../config/config.ts";
import { makeFolders } from "../lib/make-folders.ts";
import { toErrorData, AppError } from "../protocol/error.ts";
import type { JobEvent } from "../protocol/event.ts";
import type { Timings } from "../protocol/result.ts";
import { isTask, TASK_NAMES, type Task } from "../protocol/task.ts";
import type { JobState } from "../core/job-state.ts";
import { waitReason, type WaitReason } from "../core/model-availability.ts";
import { cancelJob } from "../requests/cancel-job.ts";
import { followJob } from "../requests/follow-job.ts";
import { readState } from "../requests/read-state.ts";
import { submitJob } from "../requests/submit-job.ts";
import { apiAccess } from "./api-access.ts";
import { EXIT, exitCodeOf } from "./exit-codes.ts";
import { openConfiguredModels, requireManifest } from "./models-command.ts";
import { openSystem, type ClientSystem } from "./open-system.ts";
import { processSignals } from "./process-signals.ts";
import { createProgress, type Progress } from "./progress.ts";
import { saveFiles, shownText } from "./save-files.ts";
import { parseSubmitFields, type SubmitFields } from "./submit-fields.ts";
import { submitRemotely } from "./submit-remote.ts";
import { noteIgnored, reportOf, type Outcome, type SubmitOptions, spentText } from "./submit-report.ts";
import { formatBytes, formatMs, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface SubmitArguments extends SubmitOptions {
  readonly task: string;
  readonly parameters: readonly string[];
}

/** `dryapi submit`: queue, follow, save. Ctrl-C cancels the job; a second one leaves at once. */
export async function runSubmit(env: Env, args: SubmitArguments, terminal: Terminal): Promise<number> {
  let id: string | null = null;
  try {
    const { exitCode, report } = await submitAndFollow(env, args, terminal, (known) => (id = known));
    if (args.json) terminal.out(JSON.stringify(report));
    return exitCode;
  } catch (thrown) {
    if (!args.json) throw thrown;
    terminal.out(JSON.stringify(reportOf(id, "error", { error: toErrorData(thrown) })));
    return exitCodeOf(thrown);
  }
}

async function submitAndFollow(env: Env, args: SubmitArguments, terminal: Terminal, onId: (id: string) => void): Promise<Outcome> {
  const config = readConfig(env);
  const task = checkTask(args.task);
  const wanted = parseSubmitFields(args.parameters, args.model ?? null);
  const access = await apiAccess(config);
  if (access !== null) return submitRemotely({ access, task, wanted, args, terminal, onId });
  const manifest = await chooseManifest(config, task, wanted);
  using progress = createProgress(terminal, { quiet: args.json });
  await using system = await openSystem(config);
  await refuseUnusable(system, manifest.slug);
  using interrupt = processSignals().ask({ patience: 1 });
  const { id, params, ignored } = await submitJob(system, {
    manifest,
    task,
    fields: wanted.fields,
    files: wanted.files,
    client: args.client,
    priority: args.priority,
    timeoutMs: config.jobTimeoutMs,
    signal: interrupt.first,
  });
  onId(id);
  noteIgnored(progress, manifest.slug, ignored);
  const seed = typeof params["seed"] === "number" ? params["seed"] : null;
  if (!args.wait) {
    if (!args.json) terminal.out(id);
    return { exitCode: EXIT.ok, report: reportOf(id, "pending", { seed }) };
  }
  progress.note(`request ${id}: ${task} with ${manifest.slug}${seed === null ? "" : `, seed ${seed}`}`);
  return await follow({ config, args, terminal, system, progress, id, seed, interrupt });
}

/** As the gateway does. @throws AppError with the code and the words of a worker when every live one that has the model cannot load it */
async function refuseUnusable({ availability }: ClientSystem, model: string): Promise<void> {
  const found = await availability(model);
  if (found.kind === "unusable") throw new AppError(found.code, `model ${model}: ${waitReason(found).message}`);
}

interface FollowContext {
  readonly config: Config;
  readonly args: SubmitArguments;
  readonly terminal: Terminal;
  readonly system: ClientSystem;
  readonly progress: Progress;
  readonly id: string;
  readonly seed: number | null;
  readonly interrupt: { readonly first: AbortSignal };
}

async function follow(context: FollowContext): Promise<Outcome> {
  const { args, system, progress, id, interrupt } = context;
  let preview: string | null = null;
  const onEvent = (event: JobEvent): void => {
    if (event.preview !== undefined) ({ preview } = event);
    progress.event(event);
  };
  const onWait = ({ message }: WaitReason): void => progress.note(`waits: ${message}`);
  const timeout = args.timeout === undefined ? null : AbortSignal.timeout(args.timeout);
  const signal = AbortSignal.any([interrupt.first, ...(timeout === null ? [] : [timeout])]);
  try {
    const state = await followJob({ ...system, events: (stop) => system.events(args.client, id, stop) }, { id, onEvent, onWait, signal });
    if (args.preview && preview !== null) await savePreview(context, preview);
    return await finish(context, state);
  } catch (thrown) {
    if (interrupt.first.aborted) return cancelled(context);
    if (timeout?.aborted !== true) throw thrown;
    const message = `request ${id} did not end within ${formatMs(args.timeout ?? 0)}; it goes on: dryapi status ${id}`;
    progress.note(message);
    // Redis may be what did not answer: then it is not known to have begun.
    const found = await readState(system, id).catch(() => null);
    const status = found?.state.status ?? "pending";
    return { exitCode: EXIT.timeout, report: reportOf(id, status, { seed: context.seed, error: { code: "JOB_TIMEOUT", message } }) };
  }
}

async function finish({ config, args, terminal, system, progress, id, seed, interrupt }: FollowContext, state: JobState): Promise<Outcome> {
  progress[Symbol.dispose]();
  const { result, error } = state;
  if (result === null) {
    const why = error ?? { code: "INTERNAL", message: "the request ended without a result; this is a bug" };
    if (!args.json) terminal.err(`request ${id} failed: ${why.message} [${why.code}]`);
    return { exitCode: EXIT.failed, report: reportOf(id, "error", { seed, error: why }) };
  }
  const files = await saveFiles(system.store, result.files, {
    id,
    outDir: args.out,
    storeUrl: config.storeUrl,
    retentionMs: config.retentionMs,
    signal: interrupt.first,
  });
  const main = files.find(({ role }) => role === "main") ?? files[0];
  const report = reportOf(id, "done", {
    seed: result.seed ?? seed,
    files,
    result_url: main?.url ?? null,
    timings: timingsJson(result.timings),
  });
  if (args.json) return { exitCode: EXIT.ok, report };
  const text = result.text ?? (await shownText(files));
  if (text !== null) terminal.out(text);
  for (const file of files) terminal.out(`${file.path}  (${formatBytes(file.size_bytes)})`);
  if (main?.url) terminal.out(`url      ${main.url}`);
  if (report.seed !== null) terminal.out(`seed     ${report.seed}`);
  terminal.out(`timings  ${timingsText(result.timings)}  (${result.device} on ${result.worker})`);
  return { exitCode: EXIT.ok, report };
}

/** After Ctrl-C: the job is cancelled, and its end is not waited for: from the mark on, the request is cancelled. */
async function cancelled({ system, progress, id, seed }: FollowContext): Promise<Outcome> {
  const was = await cancelJob(system, id);
  progress.note(was === "gone" ? `request ${id} had ended already` : `request ${id} is cancelled`);
  return {
    exitCode: processSignals().exitCode,
    report: reportOf(id, "error", { seed, error: toErrorData(new AppError("CANCELLED", "interrupted")) }),
  };
}

async function savePreview({ args, id, progress }: FollowContext, preview: string): Promise<void> {
  const path = resolve(args.out, `${id}.preview.jpg`);
  await makeFolders(args.out);
  await writeFile(path, Buffer.from(preview, "base64"));
  progress.note(`preview  ${path}`);
}

export function timingsJson(timings: Timings): Readonly<Record<string, number>> {
  return {
    queue_ms: timings.queueMs,
    load_ms: timings.loadMs,
    input_ms: timings.inputMs,
    run_ms: timings.runMs,
    encode_ms: timings.encodeMs,
    upload_ms: timings.uploadMs,
    wake_ms: timings.wakeMs ?? 0,
    park_ms: timings.parkMs ?? 0,
  };
}

export function timingsText(timings: Timings): string {
  return spentText(timingsJson(timings));
}

function checkTask(task: string): Task {
  if (isTask(task)) return task;
  throw new AppError("INVALID_INPUT", `task ${JSON.stringify(task)} is not known, expected one of ${TASK_NAMES.join(", ")}`);
}

/** The named model; without a name the only one that is here for the task. */
async function chooseManifest(config: Config, task: Task, { model }: SubmitFields): Promise<ReturnType<typeof requireManifest>> {
  const models = await openConfiguredModels(config);
  if (model !== null) return requireManifest(models, model);
  const able = models
    .list()
    .filter((entry) => entry.state === "available" && entry.manifest.status === "standard_model" && entry.manifest.tasks.includes(task));
  const [only] = able;
  if (only !== undefined && able.length === 1) return only.manifest;
  const all = models.list().filter(({ manifest }) => manifest.tasks.includes(task));
  throw new AppError(
    "INVALID_INPUT",
    `name a model for ${task} with --model or model=<slug>; here are ${all.map(({ slug }) => slug).join(", ") || "none"}`,
  );
}
