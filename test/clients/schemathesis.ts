import { execFile } from "node:child_process";
import { copyFile, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { FLUX_FIXTURES } from "../support/flux-rig.ts";
import { addClient, startGateway } from "../support/gateway.ts";
import { runPythonClient } from "../support/python-client.ts";
import { startSystem } from "../support/system.ts";
import { modelsForAllTasks } from "../support/task-models.ts";

const run = promisify(execFile);

/**
 * Runs schemathesis (schemathesis.readthedocs.io) with all its checks against a gateway that has a model for every task.
 * @throws Error with its report when a check fails
 */
export async function runSchemathesis(args: readonly string[], options: { readonly lifeMs?: number } = {}): Promise<string> {
  await using system = await startSystem();
  const media = join(system.dir, "media");
  await mkdir(media);
  await copyFile(new URL("init-128.png", FLUX_FIXTURES), join(media, "image.png"));
  await run("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", "sine=duration=0.2", join(media, "audio.wav")]);
  await run("ffmpeg", [
    "-v",
    "error",
    "-f",
    "lavfi",
    "-i",
    "testsrc=duration=0.2:size=64x64",
    "-pix_fmt",
    "yuv420p",
    join(media, "video.mp4"),
  ]);
  await using gateway = await startGateway(system, await modelsForAllTasks(join(system.dir, "models")));
  const key = await addClient(system, { ratePerMinute: 0, ratePerDay: 0 });
  // Plain HTTP to the socket's address is 426, whatever it is.
  const all = [
    "--exclude-path",
    "/app/{appKey}",
    "--checks",
    "all",
    "--continue-on-failure",
    "--no-color",
    "--header",
    `Authorization: Bearer ${key}`,
    ...args,
  ];
  // It leaves files where it runs.
  const env = { SCHEMATHESIS_HOOKS: "schemathesis_hooks", SCHEMATHESIS_MEDIA: media, PYTHONPATH: import.meta.dirname };
  return await runPythonClient("schemathesis", ["run", `${gateway.url}/openapi.json`, ...all], env, { ...options, cwd: system.dir });
}
