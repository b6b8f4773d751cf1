import assert from "node:assert/strict";
import { VERSIONS, type MixedFleet, type Side, type Version } from "../support/mixed-fleet.ts";

const other = (version: Version): Version => (version === "old" ? "new" : "old");

/** Each version's gateway with the other's worker: requests are done, and both gateways tell the same of all of them. */
export async function bothWays(fleet: MixedFleet, sides: readonly Side[], count: number): Promise<void> {
  for (const version of VERSIONS) {
    const worker = await fleet.worker(other(version));
    const side = sideOf(sides, version);
    const ids = await Promise.all(Array.from({ length: count }, () => fleet.submit(side)));
    await fleet.endedOnce(ids, sides);
    assert.equal(await worker.stop(), 0, `the ${other(version)} worker's exit code`);
  }
}

/** A worker of one version is ended in the middle of a job: it hands it back, and the other version's finishes it and all that waits. */
export async function drained(
  fleet: MixedFleet,
  sides: readonly Side[],
  { from, count }: { readonly from: Version; readonly count: number },
): Promise<void> {
  using gate = fleet.system.gate();
  const worker = await fleet.worker(from);
  const held = await fleet.submit(sideOf(sides, from), { fault: { ...gate.fault, step: 2 } });
  await fleet.running(held);
  const waiting = await Promise.all(Array.from({ length: count }, (_, n) => fleet.submit(sides[n % sides.length] ?? sideOf(sides, from))));
  assert.equal(await worker.stop(), 0, `the ${from} worker's exit code`);
  assert.equal(await fleet.system.state("fake", held), "waiting", "it was not handed back");
  gate.open();
  const next = await fleet.worker(other(from));
  await fleet.endedOnce([held], sides, 2);
  await fleet.endedOnce(waiting, sides);
  await next.stop();
}

/** A worker of one version dies in the middle of a job: once its lock is over the other's takes the job. */
export async function killed(fleet: MixedFleet, sides: readonly Side[], from: Version): Promise<void> {
  using gate = fleet.system.gate();
  fleet.system.env["DRYAPI_LOCK_MS"] = "2s";
  try {
    const worker = await fleet.worker(from);
    const held = await fleet.submit(sideOf(sides, from), { fault: { ...gate.fault, step: 2 } });
    await fleet.running(held);
    await worker.kill9();
    gate.open();
    const next = await fleet.worker(other(from));
    await fleet.endedOnce([held], sides, 2);
    await next.stop();
  } finally {
    fleet.system.env["DRYAPI_LOCK_MS"] = "120s";
  }
}

/** A worker of one version dies, and the other version starts in its place: it takes up the claim from the spool, and the lock goes on. */
export async function inPlace(fleet: MixedFleet, sides: readonly Side[], from: Version): Promise<void> {
  using gate = fleet.system.gate();
  const worker = await fleet.worker(from);
  const held = await fleet.submit(sideOf(sides, from), { fault: { ...gate.fault, step: 2 } });
  await fleet.running(held);
  await worker.kill9();
  gate.open();
  const next = await fleet.worker(other(from), worker.name);
  const { claim } = await fleet.system.ended("fake", held);
  await fleet.endedOnce([held], sides, claim);
  // It runs on under its claim, or is handed back at once; its lock, which outlasts the test, is not waited for.
  assert.ok(claim <= 2, `claimed ${claim} times`);
  assert.deepEqual(
    next.lines.filter(({ msg }) => /was not taken up|no longer ours/.test(msg)),
    [],
  );
  await next.stop();
}

/** What one version's gateway took is cancelled, listed and told by the other's. */
export async function records(fleet: MixedFleet, sides: readonly Side[]): Promise<void> {
  for (const version of VERSIONS) {
    const [own, foreign] = [sideOf(sides, version), sideOf(sides, other(version))];
    const id = await fleet.submit(own, { webhook_url: null });
    const asked = async (side: Side): Promise<unknown> => {
      const status = await side.api.status(id);
      // Estimates, and what each gateway remembers for a second.
      const { queue_position: _place, eta_ms: _eta, waiting_reason: _reason, waiting_message: _message, ...rest } = status;
      return rest;
    };
    assert.deepEqual(await asked(foreign), await asked(own), "a waiting request");
    const cancel = await foreign.api.post(`requests/${id}/cancel`);
    assert.equal(cancel.status, 200, JSON.stringify(cancel.body));
    assert.deepEqual(await asked(foreign), await asked(own), "a cancelled request");
    const listed = await Promise.all(sides.map(({ api }) => api.get("/api/v1/client/requests")));
    assert.deepEqual(listed[0]?.body.data, listed[1]?.body.data);
  }
}

/** Records and jobs of a version that neither knows are answered or failed with the reason, and stop nothing else. */
export async function fromTheFuture(fleet: MixedFleet, sides: readonly Side[]): Promise<void> {
  const { system } = fleet;
  const unreadable = await fleet.submit(sideOf(sides, "new"), { model: "fake-b", webhook_url: null });
  await system.client.hset(system.keys.request(unreadable), "v", "1000");
  for (const { api, version } of sides) {
    const status = await api.status(unreadable);
    assert.deepEqual([status["status"], status["error_reason"]], ["error", "RECORD_UNREADABLE"], version);
    assert.equal((await api.get("/api/v1/client/requests")).status, 200, version);
  }
  await system.queues.removeQueued("fake-b", unreadable);
  const workers = await Promise.all(VERSIONS.map((version) => fleet.worker(version)));
  const job = await system.addRaw("fake", { v: 1_000 });
  await fleet.endedOnce([await fleet.submit(sideOf(sides, "old")), await fleet.submit(sideOf(sides, "new"))], sides);
  // Each passes it on; when nobody is left to pass it to, it fails with the reason.
  assert.match((await system.ended("fake", job)).failedReason ?? "", /JOB_VERSION_UNSUPPORTED/);
  for (const worker of workers) assert.equal(await worker.stop(), 0);
}

/** Both workers on the same queue, requests through both gateways, and the old ones leave while work goes on. */
export async function replaced(
  fleet: MixedFleet,
  sides: readonly Side[],
  { from, count }: { readonly from: Version; readonly count: number },
): Promise<void> {
  const leaving = await fleet.worker(from);
  const staying = await fleet.worker(other(from));
  const ids: string[] = [];
  const submit = async (): Promise<void> => {
    for (let n = 0; n < count; n += 1) ids.push(await fleet.submit(sides[n % sides.length] ?? sideOf(sides, from), { step_ms: 20 }));
  };
  await submit();
  const [first = ""] = ids;
  await fleet.running(first);
  const [code] = await Promise.all([leaving.stop(), submit()]);
  assert.equal(code, 0, `the ${from} worker's exit code`);
  for (const id of ids) {
    const { claim } = await fleet.system.ended("fake", id);
    // Once more for what was handed back at the end of the one that left.
    assert.ok(claim <= 2, `${id}: claimed ${claim} times`);
    await fleet.endedOnce([id], sides, claim);
  }
  await staying.stop();
}

export function sideOf(sides: readonly Side[], version: Version): Side {
  const side = sides.find((each) => each.version === version);
  assert.ok(side !== undefined, `no ${version} gateway runs`);
  return side;
}
