import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { promisify } from "node:util";
import { readConfig, unknownSettings } from "../../src/config/config.ts";
import type { UnitHostReport } from "../fixtures/unit-host.ts";
import { parseEnvFile, readUnit, UNITS_DIR } from "../support/unit-file.ts";

const exec = promisify(execFile);
const UNITS = ["dryapi-worker.service", "dryapi-worker@0.service", "dryapi-gateway.service", "dryapi-courier.service"];
/** systemd-analyze's measure of what a unit may do, 0 to 10. */
const EXPOSURE: Readonly<Record<string, number>> = {
  "dryapi-worker.service": 25,
  "dryapi-worker@0.service": 25,
  "dryapi-gateway.service": 19,
  "dryapi-courier.service": 19,
};
const skip = process.getuid?.() === 0 ? false : "namespaces with mounts of their own need root";

test("systemd finds nothing wrong with the units, and they keep what may go wrong small", async () => {
  const files = (await readdir(UNITS_DIR)).filter((file) => file.endsWith(".service"));
  assert.deepEqual(files.toSorted(), [
    "dryapi-courier.service",
    "dryapi-gateway.service",
    "dryapi-worker.service",
    "dryapi-worker@.service",
  ]);
  const paths = UNITS.map((name) => join(UNITS_DIR, name.replace("@0", "@")));
  const { stdout, stderr } = await exec("systemd-analyze", ["verify", "--man=no", ...paths]);
  assert.equal(stdout + stderr, "");
  for (const [index, name] of UNITS.entries()) {
    // Fails above the threshold.
    await exec("systemd-analyze", ["security", "--offline=yes", `--threshold=${EXPOSURE[name]}`, paths[index] ?? ""]);
  }
});

test("the template is the worker's unit but for what makes its instances differ", async () => {
  const lines = async (name: string): Promise<string[]> => (await readUnit(name)).text.split("\n").filter((line) => !line.startsWith("#"));
  const worker = await lines("dryapi-worker.service");
  const template = await lines("dryapi-worker@.service");
  const differs = (line: string, from: readonly string[]): boolean => !from.includes(line);
  const keys = new Set(
    [...worker.filter((line) => differs(line, template)), ...template.filter((line) => differs(line, worker))].map(
      (line) => line.split("=")[0],
    ),
  );
  assert.deepEqual([...keys].toSorted(), ["Description", "Environment", "EnvironmentFile", "RuntimeDirectory", "StateDirectory"]);
});

test("every env file belongs to a unit, holds valid settings only, and all name one store", async () => {
  const files = (await readdir(UNITS_DIR)).filter((file) => file.endsWith(".env"));
  const named = (await Promise.all(UNITS.map(async (name) => (await readUnit(name)).all("EnvironmentFile")))).flat();
  assert.deepEqual(
    [...new Set(named.filter((path) => !path.startsWith("-")).map((path) => path.replace("/etc/dryapi/", "")))].toSorted(),
    files.toSorted(),
  );
  const envs = await Promise.all(files.map(async (file) => parseEnvFile(await readFile(join(UNITS_DIR, file), "utf8"))));
  for (const env of envs) assert.deepEqual(unknownSettings(env), []);
  assert.deepEqual([...new Set(envs.map((env) => readConfig(env).storeUrl))], ["file:///var/lib/dryapi/objects"]);
});

describe("every unit with its env file, in what the unit makes of the file system", { skip }, () => {
  let report: UnitHostReport;
  before(async () => {
    const inside = 'ip link set lo up && exec "$0" "$1"';
    const fixture = join(import.meta.dirname, "..", "fixtures", "unit-host.ts");
    const { stdout } = await exec("unshare", ["--net", "sh", "-c", inside, process.execPath, fixture], { maxBuffer: 8 << 20 });
    report = JSON.parse(stdout) as UnitHostReport;
  });

  for (const name of UNITS)
    test(`${name} becomes ready, and ends with 0 when it is stopped`, () => {
      const run = report.units[name];
      assert.match(run?.ready ?? `not ready: ${run?.output}`, /^READY=1\nSTATUS=/);
      assert.equal(run?.exitCode, 0, run?.output);
    });

  test("a job goes through gateway, store and worker", () => {
    assert.deepEqual([report.job.status, report.job.resultType], ["done", "image/png"]);
    assert.ok(report.job.stored.includes("inputs") && report.job.stored.includes("outputs"), report.job.stored.join());
  });

  test("a store where the unit may not write is told as that, at once", () => {
    for (const [name, run] of Object.entries(report.elsewhere)) {
      assert.equal(run.ready, null, name);
      assert.equal(run.exitCode, 2, run.output);
      assert.match(
        run.output,
        /object store folder \/var\/lib\/elsewhere\/objects cannot be used: .* \/var\/lib; make it .*StateDirectory/,
      );
    }
  });
});
