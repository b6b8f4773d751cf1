import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { sleep } from "../lib/backoff.ts";
import { makeFolders } from "../lib/make-folders.ts";
import { AppError, asAppError, isErrorCode, toErrorData } from "../protocol/error.ts";
import { EVENT_VERSION } from "../protocol/event.ts";
import type { Task } from "../protocol/task.ts";
import type { ApiAccess } from "./api-access.ts";
import { EXIT } from "./exit-codes.ts";
import { processSignals } from "./process-signals.ts";
import { createProgress, type Progress } from "./progress.ts";
import { RemoteApi, type RemoteStatus } from "./remote-api.ts";
import type { SubmitFields } from "./submit-fields.ts";
import { noteIgnored, reportOf, type Outcome, type SubmitOptions, spentText } from "./submit-report.ts";
import { shownText } from "./save-files.ts";
import { formatBytes, formatMs, type Terminal } from "./terminal.ts";

const POLL_MS = 250;

export interface RemoteSubmit {
  readonly access: ApiAccess;
  readonly task: Task;
  readonly wanted: SubmitFields;
  readonly args: SubmitOptions;
  readonly terminal: Terminal;
  readonly onId: (id: string) => void;
}

/** Submits through a gateway, follows by polling, saves the files. */
export async function submitRemotely({ access, task, wanted, args, terminal, onId }: RemoteSubmit): Promise<Outcome> {
  const api = new RemoteApi(access);
  using progress = createProgress(terminal, { quiet: args.json });
  using interrupt = processSignals().ask({ patience: 1 });
  const { id, ignored } = await api.submit(task, wanted, interrupt.first);
  noteIgnored(progress, wanted.model ?? "the model", ignored);
  onId(id);
  if (!args.wait) {
    if (!args.json) terminal.out(id);
    return { exitCode: EXIT.ok, report: reportOf(id, "pending", {}) };
  }
  progress.note(`request ${id}: ${task}${wanted.model === null ? "" : ` with ${wanted.model}`} through ${access.url}`);
  const timeout = args.timeout === undefined ? null : AbortSignal.timeout(args.timeout);
  const signal = AbortSignal.any([interrupt.first, ...(timeout === null ? [] : [timeout])]);
  try {
    const { status, preview } = await follow(api, id, progress, signal);
    if (args.preview && preview !== null) await savePreview(args.out, id, preview, progress);
    progress[Symbol.dispose]();
    return await finish(api, { id, status, args, terminal, signal: interrupt.first });
  } catch (thrown) {
    if (interrupt.first.aborted) return await cancelled(api, id, progress);
    if (timeout?.aborted !== true) throw thrown;
    const message = `request ${id} did not end within ${formatMs(args.timeout ?? 0)}; it goes on: dryapi status ${id}`;
    progress.note(message);
    const last = await api.status(id).catch(() => null);
    return { exitCode: EXIT.timeout, report: reportOf(id, last?.status ?? "pending", { error: { code: "JOB_TIMEOUT", message } }) };
  }
}

async function follow(
  api: RemoteApi,
  id: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<{ readonly status: RemoteStatus; readonly preview: string | null }> {
  let preview: string | null = null;
  let waits: string | null = null;
  for (let seq = 1; ; seq += 1) {
    signal.throwIfAborted();
    const status = await api.status(id, signal).catch((thrown: unknown) => {
      // A gateway that is restarted is waited for, as Redis is.
      if (asAppError(thrown).code !== "REDIS_UNAVAILABLE") throw thrown;
      return null;
    });
    preview = status?.preview ?? preview;
    if (status?.status === "done" || status?.status === "error") return { status, preview };
    const why = status?.waiting_message ?? null;
    if (why !== null && why !== waits) progress.note(`waits: ${why}`);
    waits = why;
    if (status?.status === "processing")
      progress.event({ v: EVENT_VERSION, seq, id, claim: 1, at: Date.now(), type: "progress", progress: status.progress });
    await sleep(POLL_MS, signal);
  }
}

async function finish(
  api: RemoteApi,
  end: {
    readonly id: string;
    readonly status: RemoteStatus;
    readonly args: SubmitOptions;
    readonly terminal: Terminal;
    readonly signal: AbortSignal;
  },
): Promise<Outcome> {
  const { id, status, args, terminal, signal } = end;
  const { seed } = status;
  if (status.status === "error") {
    const code = isErrorCode(status.error_reason) ? status.error_reason : "INTERNAL";
    const message = status.error_message ?? "no reason given";
    if (!args.json) terminal.err(`request ${id} failed: ${message} [${code}]`);
    return { exitCode: EXIT.failed, report: reportOf(id, "error", { seed, error: { code, message } }) };
  }
  const files = await api.save(id, status, args.out, signal);
  const report = reportOf(id, "done", { seed, files, result_url: status.result_url, timings: status.timings });
  if (args.json) return { exitCode: EXIT.ok, report };
  const text = status.result ?? (await shownText(files));
  if (text !== null) terminal.out(text);
  for (const file of files) terminal.out(`${file.path}  (${formatBytes(file.size_bytes)})`);
  if (status.result_url !== null) terminal.out(`url      ${status.result_url}`);
  if (seed !== null) terminal.out(`seed     ${seed}`);
  terminal.out(`timings  ${spentText(status.timings ?? {})}`);
  return { exitCode: EXIT.ok, report };
}

async function cancelled(api: RemoteApi, id: string, progress: Progress): Promise<Outcome> {
  const isCancelled = await api.cancel(id).then(
    () => true,
    () => false,
  );
  progress.note(isCancelled ? `request ${id} is cancelled` : `request ${id} had ended already`);
  return {
    exitCode: processSignals().exitCode,
    report: reportOf(id, "error", { error: toErrorData(new AppError("CANCELLED", "interrupted")) }),
  };
}

/** `preview` is a data URI. */
async function savePreview(outDir: string, id: string, preview: string, progress: Progress): Promise<void> {
  const path = resolve(outDir, `${id}.preview.jpg`);
  await makeFolders(outDir);
  await writeFile(path, Buffer.from(preview.slice(preview.indexOf(",") + 1), "base64"));
  progress.note(`preview  ${path}`);
}
