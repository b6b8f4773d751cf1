import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { addClient, ApiClient, startGateway } from "../support/gateway.ts";
import { startSystem, WAIT_MS } from "../support/system.ts";

const JOB = { model: "fake", prompt: "x", width: 64, height: 64, steps: 1 };
const ENV = { DRYAPI_MODELS: "fake", DRYAPI_RATE_PER_MINUTE: "0" };

/** Sends submits, each with an Idempotency-Key, as a careful client does: again and again until each has been answered. */
async function submitAll(
  apis: readonly ApiClient[],
  count: number,
  onAccepted: (accepted: number) => void,
): Promise<ReadonlyMap<string, string>> {
  const ids = new Map<string, string>();
  const keys = Array.from({ length: count }, () => randomUUID());
  const until = performance.now() + WAIT_MS;
  const send = async (key: string): Promise<void> => {
    for (let tries = 0; ; tries += 1) {
      const api = apis[tries % apis.length];
      const answer = await api?.post("txt2img", JOB, { "Idempotency-Key": key }).catch(() => null);
      if (answer?.status === 200) {
        ids.set(key, String(answer.body.data["request_id"]));
        onAccepted(ids.size);
        return;
      }
      assert.ok(answer === null || answer === undefined || answer.status === 503, `answered ${answer?.status}`);
      assert.ok(performance.now() < until, "a submit was not accepted in time");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  const lanes = Array.from({ length: 8 }, async (_, lane) => {
    for (let index = lane; index < keys.length; index += 8) await send(keys[index] ?? "");
  });
  await Promise.all(lanes);
  return ids;
}

test("a gateway killed -9 under load: every key is one request, each accepted one ends once", async () => {
  await using system = await startSystem();
  await system.startWorker();
  const first = await startGateway(system, ENV);
  await using second = await startGateway(system, ENV);
  const key = await addClient(system, { ratePerMinute: 0 });
  const kills: Promise<void>[] = [];
  const ids = await submitAll([new ApiClient(first.url, key), new ApiClient(second.url, key)], 200, (accepted) => {
    if (accepted >= 60 && kills.length === 0) kills.push(first.kill9());
  });
  await Promise.all(kills);
  assert.equal(new Set(ids.values()).size, 200, "one request per key");
  for (const id of ids.values()) assert.equal((await system.ended("fake", id)).state, "completed");
  // What the first one had recorded and not queued is found by the other's sweep: nothing stays behind.
  await system.until("no request without a job", async () =>
    (await system.index.unqueued(Date.now() - 15_000, 10)).length === 0 ? true : undefined,
  );
  const counts = Map.groupBy(
    system.events.filter(({ type }) => type === "done"),
    ({ id }) => id,
  );
  for (const id of ids.values()) assert.equal(counts.get(id)?.length, 1, "done is told once");
});

test("redis killed -9 under load: nobody is told of a request that is lost", async () => {
  await using system = await startSystem();
  await system.startWorker();
  await using gateway = await startGateway(system, ENV);
  const key = await addClient(system, { ratePerMinute: 0 });
  const api = new ApiClient(gateway.url, key);
  const restarts: Promise<void>[] = [];
  const ids = await submitAll([api], 200, (accepted) => {
    if (accepted >= 60 && restarts.length === 0) restarts.push(system.restartRedis());
  });
  await Promise.all(restarts);
  for (const id of ids.values()) {
    const view = await system.ended("fake", id);
    assert.equal(view.state, "completed", view.failedReason ?? "");
    assert.equal((await api.status(id))["status"], "done");
  }
});
