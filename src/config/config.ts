import { AppError } from "../protocol/error.ts";
import { redactUrl } from "../protocol/redact.ts";
import { BUILT_IN_PROVIDERS } from "../protocol/runtime-options.ts";
import { NotThis } from "./parsers.ts";
import type { DefaultFacts, Setting } from "./setting.ts";
import { FOREIGN_SETTINGS, SETTINGS, type SettingName } from "./settings.ts";

type Env = Readonly<Record<string, string | undefined>>;

type ValueOf<S> = S extends Setting<infer T> ? T : never;

/** The effective configuration: validated, frozen, free of keys and passwords but for those inside `redisUrl`. */
export type Config = { readonly [K in SettingName]: ValueOf<(typeof SETTINGS)[K]> };

export interface EffectiveSetting {
  readonly env: string;
  readonly group: string;
  /** As written or as the default says, redacted; null = unset. */
  readonly value: string | null;
  readonly source: "environment" | "default";
  /** How the documents call the default. */
  readonly fallback: string;
  readonly meaning: string;
  /** What is wrong with the value, null when it is valid. */
  readonly problem: string | null;
  readonly programs: readonly string[];
}

interface Reading {
  readonly name: SettingName;
  readonly setting: Setting<unknown>;
  readonly raw: string | null;
  readonly source: "environment" | "default";
  readonly value: unknown;
  readonly problem: string | null;
}

/** @throws AppError CONFIG_INVALID that names every wrong variable with its value and what was expected */
export function readConfig(env: Env): Config {
  const readings = readAll(env);
  const config = Object.fromEntries(readings.map(({ name, value }) => [name, value])) as unknown as Config;
  const problems = readings.flatMap(({ problem }) => (problem === null ? [] : [problem]));
  if (problems.length === 0) problems.push(...crossCheck(config));
  if (problems.length === 0) return Object.freeze(config);
  const lines = problems.map((problem) => `  ${problem}`).join("\n");
  throw new AppError("CONFIG_INVALID", `the configuration is invalid (dryapi config lists every setting):\n${lines}`);
}

/** Every setting with its present value, also when some are invalid. For people and `dryapi config`. */
export function describeConfig(env: Env): readonly EffectiveSetting[] {
  const own = readAll(env).map(({ setting, raw, source, problem }) => ({
    env: setting.env,
    group: setting.group,
    value: raw === null ? null : shown(setting, raw),
    source,
    fallback: fallbackText(setting),
    meaning: setting.meaning,
    problem,
    programs: setting.programs,
  }));
  const foreign = FOREIGN_SETTINGS.map((row): EffectiveSetting => {
    const raw = env[row.env] ?? "";
    const value = raw === "" ? null : row.secret ? HIDDEN : raw;
    return {
      ...row,
      value,
      source: raw === "" ? "default" : "environment",
      fallback: "unset",
      problem: null,
      programs: ["worker", "up", "submit", "doctor"],
    };
  });
  return [...own, ...foreign];
}

/** Variables that look like ours and are not: typing mistakes. */
export function unknownSettings(env: Env): readonly string[] {
  const known = new Set<string>([...Object.values(SETTINGS).map((setting) => setting.env), ...INTERNAL]);
  return Object.keys(env).filter((name) => name.startsWith("DRYAPI_") && !known.has(name));
}

/** Values that must never reach a log: the logger replaces them wherever they turn up. */
export function secretValues(env: Env): readonly string[] {
  const own: readonly Setting<unknown>[] = Object.values(SETTINGS);
  const values = [...FOREIGN_SETTINGS, ...own].filter(({ secret }) => secret).map((row) => env[row.env] ?? "");
  for (const row of own.filter(({ hidePassword }) => hidePassword)) {
    // By pattern, since a sentinel address is no URL; up to the last `@`, since people leave passwords as they are.
    const password = /^[a-z+0-9]+:\/\/[^:@/]*:(.+)@/.exec(env[row.env] ?? "")?.[1] ?? "";
    values.push(password, decodeText(password));
  }
  // A shorter one would also replace harmless text, and is no secret worth the name.
  return [...new Set(values)].filter((value) => value.length >= 6);
}

export function fallbackText(setting: Setting<unknown>): string {
  if (setting.fallbackText !== undefined) return setting.fallbackText;
  return typeof setting.fallback === "string" ? setting.fallback : "unset";
}

const HIDDEN = "(hidden)";
/** Set by our own programs for their children. */
const INTERNAL = ["DRYAPI_PARENT_PID", "DRYAPI_PARENT_WATCH", "DRYAPI_NICE"];

function readAll(env: Env): readonly Reading[] {
  const readings: Reading[] = [];
  let facts: DefaultFacts = { env, stateDir: "" };
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const reading = readOne(name, env, facts);
    readings.push(reading);
    if (name === "stateDir") facts = { env, stateDir: typeof reading.value === "string" ? reading.value : "" };
  }
  return readings;
}

function readOne(name: SettingName, env: Env, facts: DefaultFacts): Reading {
  const setting: Setting<unknown> = SETTINGS[name];
  const given = env[setting.env]?.trim() ?? "";
  const fallback = typeof setting.fallback === "function" ? setting.fallback(facts) : setting.fallback;
  const raw = given === "" ? fallback : given;
  const source = given === "" ? "default" : "environment";
  const base = { name, setting, raw, source } as const;
  if (raw === null) return { ...base, value: null, problem: null };
  try {
    return { ...base, value: setting.parser.parse(raw), problem: null };
  } catch (thrown) {
    const problem = `${setting.env} is ${JSON.stringify(shown(setting, raw))}, expected ${setting.parser.expected}`;
    return {
      ...base,
      value: null,
      problem: thrown instanceof NotThis && thrown.message !== "" ? `${problem}: ${thrown.message}` : problem,
    };
  }
}

function shown(setting: Setting<unknown>, raw: string): string {
  return setting.secret === true ? HIDDEN : redactUrl(raw);
}

function crossCheck(config: Config): string[] {
  const problems = [...checkDevices(config), ...checkProviders(config)];
  if (config.models !== null) {
    for (const slug of config.pinnedModels ?? []) {
      if (!config.models.includes(slug)) problems.push(`DRYAPI_PINNED_MODELS names ${slug}, expected only models that DRYAPI_MODELS lists`);
    }
  }
  return problems;
}

function checkDevices({ device, devices }: Pick<Config, "device" | "devices">): readonly string[] {
  if (devices === null) return [];
  const given = `DRYAPI_DEVICES is ${JSON.stringify(devices.join(","))}`;
  if (device === "cpu") return [`${given} while DRYAPI_DEVICE is "cpu", expected it to be unset: it chooses GPUs`];
  if (device === "webgpu")
    return [`${given} while DRYAPI_DEVICE is "webgpu", expected it to be unset: the system chooses the adapter, and there is one`];
  const twice = devices.find((index, place) => devices.indexOf(index) < place);
  return twice === undefined ? [] : [`${given}, expected each GPU once: ${twice} is there twice`];
}

function checkProviders({ runtimeOptions, epLibraries }: Pick<Config, "runtimeOptions" | "epLibraries">): readonly string[] {
  const named = new Set([
    ...Object.values(runtimeOptions?.providers ?? {}).flatMap((names) => names ?? []),
    ...Object.keys(runtimeOptions?.plugins ?? {}),
  ]);
  const unknown = [...named].filter((name) => !BUILT_IN_PROVIDERS.has(name) && epLibraries?.[name] === undefined);
  return unknown.map((name) => `DRYAPI_RUNTIME_OPTIONS names the provider ${name}, expected DRYAPI_EP_LIBRARIES to have its library`);
}

function decodeText(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
