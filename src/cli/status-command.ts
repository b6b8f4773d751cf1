import { readConfig } from "../config/config.ts";
import { AppError } from "../protocol/error.ts";
import { cancelJob } from "../requests/cancel-job.ts";
import { readState } from "../requests/read-state.ts";
import { whyWaiting } from "../requests/why-waiting.ts";
import { EXIT } from "./exit-codes.ts";
import { openSystem } from "./open-system.ts";
import { resultUrl } from "./save-files.ts";
import { timingsJson, timingsText } from "./submit-command.ts";
import type { Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** `dryapi status <id>`. Exits 1 when the request has failed. */
export async function runStatus(env: Env, id: string, options: { readonly json: boolean }, terminal: Terminal): Promise<number> {
  const config = readConfig(env);
  await using system = await openSystem(config);
  const found = await readState(system, id);
  if (found === null)
    throw new AppError("REQUEST_UNKNOWN", `request ${id} is not known; it was never submitted here, or its retention is over`);
  const { record, state } = found;
  const main = state.result?.files.find(({ role }) => role === "main");
  const url = main === undefined ? null : await resultUrl(system.store, main, { id, ...config });
  const waits = await whyWaiting(system, found);
  const exitCode = state.status === "error" ? EXIT.failed : EXIT.ok;
  if (options.json) {
    const timings = state.result === null ? null : timingsJson(state.result.timings);
    const seed = state.result?.seed ?? record.params["seed"] ?? null;
    const { status, progress, stage, error } = state;
    terminal.out(
      JSON.stringify({
        request_id: id,
        task: record.task,
        model: record.model,
        status,
        progress,
        stage,
        waiting: waits === null ? null : { code: waits.code, message: waits.message },
        result_url: url,
        seed,
        timings,
        error,
      }),
    );
    return exitCode;
  }
  terminal.out(`${id}  ${state.status}  ${record.task} with ${record.model}`);
  if (waits !== null) terminal.out(`waits    ${waits.message} [${waits.code}]`);
  if (state.status === "processing")
    terminal.out(`progress ${Math.round(state.progress)} %${state.stage === null ? "" : `, ${state.stage}`}`);
  if (url !== null) terminal.out(`url      ${url}`);
  if (state.result !== null)
    terminal.out(`timings  ${timingsText(state.result.timings)}  (${state.result.device} on ${state.result.worker})`);
  if (state.error !== null) {
    terminal.out(`error    ${state.error.message} [${state.error.code}]`);
    if (state.error.blackBox !== undefined) terminal.out(`blackbox ${JSON.stringify(state.error.blackBox)}`);
  }
  return exitCode;
}

/** `dryapi cancel <id>`. */
export async function runCancel(env: Env, id: string, terminal: Terminal): Promise<number> {
  await using system = await openSystem(readConfig(env));
  const was = await cancelJob(system, id);
  const said = { removed: "was waiting and will not start", active: "is running and will stop within moments", gone: "had ended already" };
  terminal.out(`${id} ${said[was]}`);
  return EXIT.ok;
}
