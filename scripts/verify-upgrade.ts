/**
 * `node --test scripts/verify-upgrade.ts`, as `scripts/verify upgrade` runs it: a rolling upgrade from the previous version with built programs of both,
 * drains, deaths and a few hundred requests, and the way back. The light part is test/upgrade/rolling-upgrade.test.ts.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { startMixedFleet, VERSIONS, type MixedFleet, type Side } from "../test/support/mixed-fleet.ts";
import { checkOut, previousRef } from "../test/support/old-version.ts";
import { bothWays, drained, fromTheFuture, inPlace, killed, records, replaced, sideOf } from "../test/upgrade/upgrade-steps.ts";

const ROOT = join(import.meta.dirname, "..");
const REQUESTS = 40;
const ROUNDS = 3;

test("a rolling upgrade and the way back", async (t) => {
  const previous = await previousRef();
  assert.ok(!("missing" in previous), "missing" in previous ? previous.missing : "");
  await using old = await checkOut(previous.ref);
  t.diagnostic(`from ${previous.ref} to this checkout`);
  execFileSync("npm", ["run", "--silent", "build"], { cwd: ROOT, stdio: ["ignore", "ignore", "inherit"] });
  await using fleet = await startMixedFleet({ old: await old.build(), new: join(ROOT, "dist", "cli.js") });
  const sides = await Promise.all(VERSIONS.map((version) => fleet.gateway(version)));
  await t.test("each version's gateway with the other's worker", () => bothWays(fleet, sides, REQUESTS));
  await t.test("what one version's gateway took, the other's tells and cancels", () => records(fleet, sides));
  await t.test("records and jobs of a still newer version", () => fromTheFuture(fleet, sides));
  for (let round = 1; round <= ROUNDS; round += 1) {
    for (const from of VERSIONS) {
      await t.test(`round ${round}: the ${from} worker drains in the middle of a job`, () =>
        drained(fleet, sides, { from, count: REQUESTS }),
      );
      await t.test(`round ${round}: the ${from} worker dies in the middle of a job`, () => killed(fleet, sides, from));
      await t.test(`round ${round}: the other version starts in the place of the ${from} worker that died`, () =>
        inPlace(fleet, sides, from),
      );
      await t.test(`round ${round}: the ${from} worker leaves while both work`, () => replaced(fleet, sides, { from, count: REQUESTS }));
    }
  }
  await t.test("everything is upgraded, and what the old gateway took last ends", () => upgraded(fleet, sides));
});

/** The order of docs/upgrades.md: the worker first, then the gateway; requests of the old gateway are still waiting when it leaves. */
async function upgraded(fleet: MixedFleet, sides: readonly Side[]): Promise<void> {
  const [old, current] = [sideOf(sides, "old"), sideOf(sides, "new")];
  const taken = await Promise.all(Array.from({ length: REQUESTS }, () => fleet.submit(old)));
  assert.equal(await old.gateway.stop(), 0, "the old gateway's exit code");
  const worker = await fleet.worker("new");
  await fleet.endedOnce(taken, [current]);
  const later = await Promise.all(Array.from({ length: REQUESTS }, () => fleet.submit(current)));
  await fleet.endedOnce(later, [current]);
  await worker.stop();
}
