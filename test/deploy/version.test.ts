import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { packageVersions, versionPlaces } from "../../scripts/set-version.ts";
import { packageVersion } from "../../src/config/package-info.ts";

const ROOT = join(import.meta.dirname, "..", "..");

test("every file that names a version names this one", async () => {
  const places = [...(await packageVersions()), ...(await versionPlaces())];
  assert.ok(
    places.some(({ at }) => at.startsWith("deploy/")) && places.some(({ at }) => at.startsWith("Dockerfile")),
    "no place was found",
  );
  const wrong = places.filter(({ version }) => version !== packageVersion());
  assert.deepEqual(wrong, [], `expected ${packageVersion()}: node scripts/set-version.ts ${packageVersion()}`);
});

test("the program says the version of its package", () => {
  const said = execFileSync(process.execPath, [join(ROOT, "src", "cli.ts"), "--version"], { encoding: "utf8" });
  assert.equal(said.trim(), packageVersion());
});

test("the changelog has releases in order, each with its day, and this version only once it is released", async () => {
  const text = await readFile(join(ROOT, "CHANGELOG.md"), "utf8");
  const headings = [...text.matchAll(/^## (.*)$/gm)].map(([, heading = ""]) => heading);
  assert.equal(headings[0], "[Unreleased]");
  const released = headings.slice(1).map((heading) => {
    const [, version = "", day = ""] = /^\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$/.exec(heading) ?? [];
    assert.ok(!Number.isNaN(Date.parse(day)), `## ${heading}: expected ## [1.2.3] - 2026-01-31`);
    return version;
  });
  const [core = "", isDev] = packageVersion().split("-", 2);
  const order = released.map((version) =>
    version
      .split(".")
      .map((part) => part.padStart(6, "0"))
      .join("."),
  );
  assert.deepEqual(order, order.toSorted().toReversed());
  assert.equal(released.includes(core), isDev === undefined, `${packageVersion()} and the headings ${released.join(", ")} disagree`);
});
