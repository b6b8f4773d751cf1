import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join } from "node:path";

export const UNITS_DIR: string = join(import.meta.dirname, "..", "..", "deploy", "systemd");

/** Where an operator puts the env files. */
const ETC = "/etc/dryapi/";

/** A unit file as systemd reads it: every assignment in order, specifiers filled in. */
export interface UnitFile {
  readonly name: string;
  /** All values of a key; an empty assignment forgets those before it. */
  all(key: string): readonly string[];
  /** The last value of a key. @throws Error when there is none */
  one(key: string): string;
  readonly text: string;
}

/** `name` as `systemctl` takes it: dryapi-worker.service, or dryapi-worker@0.service for an instance of the template. */
export async function readUnit(name: string, dir: string = UNITS_DIR): Promise<UnitFile> {
  const instance = /@(.+)\.service$/.exec(name)?.[1] ?? "";
  const text = await readFile(join(dir, name.replace(/@.*\.service$/, "@.service")), "utf8");
  const filled = text.replaceAll("%i", instance).replaceAll("%H", hostname());
  const values = new Map<string, string[]>();
  for (const line of filled.split("\n")) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    if (value === "") values.set(key, []);
    else values.set(key, [...(values.get(key) ?? []), value]);
  }
  const all = (key: string): readonly string[] => values.get(key) ?? [];
  return {
    name,
    text,
    all,
    one: (key) => {
      const value = all(key).at(-1);
      if (value === undefined) throw new Error(`${name} has no ${key}=`);
      return value;
    },
  };
}

/** Lines NAME=value of an env file. */
export function parseEnvFile(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

/** What a unit's program finds in its environment: Environment=, then its env files as they are shipped. */
export async function unitEnvironment(unit: UnitFile, dir: string = UNITS_DIR): Promise<Record<string, string>> {
  const env = Object.fromEntries(
    unit
      .all("Environment")
      .flatMap((line) => line.split(" ").map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)])),
  ) as Record<string, string>;
  for (const value of unit.all("EnvironmentFile")) {
    if (value.startsWith("-")) continue;
    if (!value.startsWith(ETC)) throw new Error(`${unit.name}: EnvironmentFile=${value} is not below ${ETC}`);
    Object.assign(env, parseEnvFile(await readFile(join(dir, basename(value)), "utf8")));
  }
  return env;
}
