import { join } from "node:path";
import { after, before, test } from "node:test";
import { startMixedFleet, VERSIONS, type MixedFleet, type Side } from "../support/mixed-fleet.ts";
import { checkOut, previousRef, type OldVersion } from "../support/old-version.ts";
import { bothWays, drained, fromTheFuture, records, replaced } from "./upgrade-steps.ts";

/** The whole of it, with built programs, deaths and hundreds of requests, is `scripts/verify upgrade`. */
const CLI = join(import.meta.dirname, "..", "..", "src", "cli.ts");
const previous = await previousRef();
const skip = "missing" in previous ? previous.missing : false;

let old: OldVersion;
let fleet: MixedFleet;
let sides: readonly Side[];
before(async () => {
  if ("missing" in previous) return;
  old = await checkOut(previous.ref);
  fleet = await startMixedFleet({ old: old.cli, new: CLI });
  sides = await Promise.all(VERSIONS.map((version) => fleet.gateway(version)));
});
after(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await old?.[Symbol.asyncDispose]();
});

test("each version's gateway with the other's worker", { skip }, () => bothWays(fleet, sides, 2));

test("what one version's gateway took, the other's tells and cancels", { skip }, () => records(fleet, sides));

test("records and jobs that a still newer version wrote stop neither", { skip }, () => fromTheFuture(fleet, sides));

test("an old worker that drains in the middle of a job hands it to a new one", { skip }, () =>
  drained(fleet, sides, { from: "old", count: 2 }),
);

test("a new worker that drains in the middle of a job hands it to an old one, as a rollback needs", { skip }, () =>
  drained(fleet, sides, { from: "new", count: 2 }),
);

test("an old worker leaves while both work", { skip }, () => replaced(fleet, sides, { from: "old", count: 6 }));
