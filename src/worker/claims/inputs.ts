import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { RunnerJob } from "../../protocol/ipc.ts";
import type { SpoolClaim } from "../spool/spool.ts";
import type { WorkerContext } from "../worker-context.ts";
import { fetchSource, sourceUrlOf } from "./fetch-source.ts";
import type { HeldJob } from "./held-job.ts";

/** Largest input that is taken from the object store; the gateway's own limits are lower. */
const MAX_INPUT_BYTES = 512 * 1024 * 1024;

/** Brings a job's inputs into its folder: from the object store, or from the URL that the client named. @throws AppError; `signal.reason` */
export async function fetchInputs(context: WorkerContext, job: HeldJob, entry: SpoolClaim): Promise<RunnerJob["inputs"]> {
  const { task, params, inputs } = job.data;
  const { signal } = job;
  const url = sourceUrlOf(task, params);
  if (inputs.length === 0 && url === null) return [];
  await mkdir(entry.inDir, { recursive: true });
  if (url !== null) {
    const path = join(entry.inDir, "source");
    return [await fetchSource(context.guardedFetch, { url, path, maxBytes: context.config.maxSourceBytes, signal })];
  }
  return Promise.all(
    inputs.map(async ({ name, key, contentType, sizeBytes, sha256 }, index) => {
      const path = join(entry.inDir, String(index));
      await context.store.getToFile(key, path, { maxBytes: Math.min(MAX_INPUT_BYTES, sizeBytes), sha256, signal });
      return { name, path, contentType };
    }),
  );
}
