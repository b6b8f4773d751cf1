import { makeFolders } from "../../lib/make-folders.ts";
import { join } from "node:path";
import { AppError, ERROR_TABLE } from "../../protocol/error.ts";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { SpoolClaim } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";
import { fetchSource, sourceOf } from "./fetch-source.ts";
import type { HeldJob } from "./held-job.ts";

/** Largest input that is taken from the object store; the gateway's own limits are lower. */
const MAX_INPUT_BYTES = 512 * 1024 * 1024;

/** Brings a job's inputs into its folder: from the object store, or from the URL that the client named. @throws AppError; `signal.reason` */
export async function fetchInputs(context: WorkerContext, job: HeldJob, entry: SpoolClaim): Promise<RunnerJob["inputs"]> {
  const { task, params, inputs } = job.data;
  const { signal } = job;
  const source = sourceOf(task, params);
  if (inputs.length === 0 && source === null) return [];
  await makeFolders(entry.inDir);
  if (source !== null) {
    const path = join(entry.inDir, "source");
    return [await fetchSource(context.guardedFetch, { ...source, path, maxBytes: context.config.maxSourceBytes, signal })];
  }
  return Promise.all(
    inputs.map(async ({ name, key, contentType, sizeBytes, sha256 }, index) => {
      const path = join(entry.inDir, String(index));
      const limits = { maxBytes: Math.min(MAX_INPUT_BYTES, sizeBytes), sha256, signal };
      await context.store.getToFile(key, path, limits).catch((thrown: unknown) => {
        throw thrown instanceof AppError && ERROR_TABLE[thrown.code].blame === "client" ? ofField(name, thrown) : thrown;
      });
      return { name, path, contentType };
    }),
  );
}

function ofField(field: string, { code, message, cause }: AppError): AppError {
  return new AppError(code, message, { field, cause });
}
