import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { readConfig, unknownSettings } from "../../src/config/config.ts";
import { FOREIGN_SETTINGS, SETTINGS } from "../../src/config/settings.ts";

const DEPLOY = join(import.meta.dirname, "..", "..", "deploy");

function parseEnv(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}

/** Every value of a key in a unit file or manifest, units and colons aside. */
function secondsOf(text: string, key: string): number {
  const value = new RegExp(`^\\s*${key}[=:]\\s*(\\d+)`, "m").exec(text)?.[1];
  assert.ok(value, `${key} is missing`);
  return Number(value);
}

test("the env files hold valid settings only", async () => {
  const known = new Set<string>([...Object.values(SETTINGS).map(({ env }) => env), ...FOREIGN_SETTINGS.map(({ env }) => env)]);
  for (const file of ["systemd/worker.env", "systemd/gateway.env"]) {
    const env = parseEnv(await readFile(join(DEPLOY, file), "utf8"));
    assert.ok(Object.keys(env).length > 3, file);
    assert.deepEqual(unknownSettings(env), [], file);
    for (const name of Object.keys(env)) assert.ok(known.has(name), `${file}: ${name}`);
    readConfig(env);
  }
});

test("the service managers wait longer than a drain takes", async () => {
  const unit = await readFile(join(DEPLOY, "systemd/dryapi-worker.service"), "utf8");
  assert.ok(secondsOf(unit, "TimeoutStopSec") * 1_000 > readConfig({}).shutdownGraceMs + 30_000);
});
