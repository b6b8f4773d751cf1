import { asAppError } from "../protocol/error.ts";
import type { RunnerJob } from "../protocol/ipc.ts";
import { isDeviceFailure } from "./device-failure.ts";
import type { JobEnd, JobOutput } from "./pipeline.ts";

/**
 * Runs jobs one after the other and tells the end of each: for families that do not batch.
 * @throws AppError that concerns the device and so all jobs that have not ended
 */
export async function runEach(
  jobs: readonly RunnerJob[],
  end: (id: string, end: JobEnd) => void,
  run: (job: RunnerJob) => Promise<JobOutput>,
): Promise<void> {
  for (const job of jobs) {
    try {
      end(job.id, { ok: true, output: await run(job) });
    } catch (thrown) {
      const error = asAppError(thrown, "PIPELINE_FAILED");
      if (isDeviceFailure(error.code)) throw error;
      end(job.id, { ok: false, error });
    }
  }
}
