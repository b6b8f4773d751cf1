import { readConfig, secretValues, type Config } from "../config/config.ts";
import { whyUnfit } from "../core/device-fit.ts";
import { redisFailure } from "../core/redis-failure.ts";
import { createRedactor } from "../protocol/redact.ts";
import { asAppError } from "../protocol/error.ts";
import { isAskedFor } from "../models/asked-for.ts";
import { openHelperPrograms } from "../models/helper-programs.ts";
import type { ModelEntry } from "../models/scan-models.ts";
import type { Models } from "../models/open-models.ts";
import { budgetedDevices } from "../worker/devices/budgeted-devices.ts";
import { detectDevices, type DetectedDevice } from "../worker/devices/devices.ts";
import { checkDevices } from "./doctor/check-devices.ts";
import { checkDisk, checkFfmpeg, checkNode, checkSetpriv, checkSettings } from "./doctor/check-host.ts";
import { checkLifecycle } from "./doctor/check-lifecycle.ts";
import { checkModels } from "./doctor/check-models.ts";
import { checkRedisFacts } from "./doctor/check-redis.ts";
import { checkOnnxRuntime } from "./doctor/check-runtime.ts";
import { checkObjectStore } from "./doctor/check-store.ts";
import { fail, warn, type Finding } from "./doctor/finding.ts";
import { EXIT } from "./exit-codes.ts";
import { openConfiguredModels } from "./models-command.ts";
import { openStore, readRedisFacts, redisUrlOf } from "./open-system.ts";
import { wrap, type Terminal } from "./terminal.ts";

type Env = Readonly<Record<string, string | undefined>>;

export interface DoctorOptions {
  readonly json: boolean;
  /** Start a runner on each device. */
  readonly probe: boolean;
}

const STORE_TIMEOUT_MS = 20_000;

/** `dryapi doctor`: every check runs, whatever the ones before it found. Exits 1 when one failed. */
export async function runDoctor(env: Env, options: DoctorOptions, terminal: Terminal): Promise<number> {
  const findings: Finding[] = [];
  const redact = createRedactor(secretValues(env));
  const add = (found: Finding | readonly Finding[]): void => {
    for (const each of [found].flat()) {
      const finding = { ...each, message: redact(each.message) };
      findings.push(finding);
      if (!options.json) print(finding, terminal);
    }
  };
  add(checkNode(process.version));
  add(checkSettings(env));
  // Without valid settings there is nothing to check them against.
  const config = readConfig(env);
  add(await checkSetpriv(env));
  add(await checkFfmpeg(env, config));
  add(await checkDisk(config));
  add(await checkRedis(config));
  add(await checkObjectStore(() => openStore(config), AbortSignal.timeout(STORE_TIMEOUT_MS)));
  add(await checkLifecycle(() => openStore(config), config.retentionMs, AbortSignal.timeout(STORE_TIMEOUT_MS)));
  const devices = budgetedDevices(await foundDevices(config, env), config);
  const models = await openConfiguredModels(config, {
    missingPrograms: openHelperPrograms({ env, ffmpegDir: config.ffmpegDir }),
    whyUnfit: (manifest, partBytes) => (isAskedFor(manifest, config) ? whyUnfit(manifest, partBytes, devices) : null),
  });
  add(checkModels(models, config));
  add(await checkOnnxRuntime(env, config));
  add(await checkDevices({ env, config, probe: options.probe ? probeModel(models) : null }));
  const count = (level: Finding["level"]): number => findings.filter((finding) => finding.level === level).length;
  const summary = { ok: count("ok"), warn: count("warn"), fail: count("fail") };
  if (options.json) terminal.out(JSON.stringify({ checks: findings, summary }, null, 2));
  else terminal.out(`\n${summary.ok} ok, ${summary.warn} warnings, ${summary.fail} failures`);
  return summary.fail > 0 ? EXIT.failed : EXIT.ok;
}

/** None where they cannot be had: the check of the devices says why. */
async function foundDevices({ device, devices: only }: Config, env: Env): Promise<readonly DetectedDevice[]> {
  return detectDevices(device, { env, only }).catch(() => []);
}

async function checkRedis(config: Config): Promise<readonly Finding[]> {
  let redisUrl: string;
  try {
    redisUrl = await redisUrlOf(config);
  } catch (thrown) {
    return [warn("redis", asAppError(thrown).message, "set REDIS_URL for `dryapi worker`; `dryapi up` starts its own")];
  }
  try {
    return checkRedisFacts(await readRedisFacts(redisUrl, config.namespace));
  } catch (thrown) {
    return [unreachable(thrown)];
  }
}

/** Its advice stands on a line of its own. */
function unreachable(thrown: unknown): Finding {
  const { message } = asAppError(thrown);
  const advice = redisFailure(thrown)?.advice;
  if (advice === undefined) return fail("redis", message, "start redis-server, or check REDIS_URL");
  return fail("redis", message.replace(`; ${advice}`, ""), advice);
}

/** The smallest usable model with native code: its runner proves the device. */
function probeModel(models: Models): ModelEntry | null {
  const need = ({ manifest }: ModelEntry): number => Math.max(0, ...Object.values(manifest.memoryBytes));
  const able = models.list().filter((model) => model.state === "available" && model.manifest.family !== "fake");
  return able.toSorted((a, b) => need(a) - need(b))[0] ?? null;
}

function print({ check, level, message, fix }: Finding, terminal: Terminal): void {
  const head = `${level.padEnd(4)}  ${check.padEnd(20)}  `;
  const indent = " ".repeat(head.length);
  terminal.out(`${head}${wrap(message, 90, indent)}`);
  if (fix !== undefined) terminal.out(`${indent}-> ${wrap(fix, 87, `${indent}   `)}`);
}
